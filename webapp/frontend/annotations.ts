// What a chart says beside its lines: restarts, references, values that were not finite, the best.
import type uPlot from "uplot";
import { token } from "./colours";
import { whole } from "./numbers";
import type { Attempt } from "./points";
import { clockTime } from "./times";

export interface Annotations {
  breaks: { x: number; attempt: Attempt }[];
  references: { value: number }[];
  notFinite: number[];
  best: { x: number; y: number } | null;
}

export function annotate(plot: uPlot, { breaks, references, notFinite, best }: Annotations): void {
  const { ctx } = plot;
  ctx.save();
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.lineWidth = devicePixelRatio;
  ctx.strokeStyle = ctx.fillStyle = token("muted");
  drawBreaks(plot, breaks);
  drawReferences(plot, references);
  markNotFinite(plot, notFinite);
  if (best) markBest(plot, best.x, best.y);
  ctx.restore();
}

/** Dotted verticals, named above the plot where there is room, so that no word lies over a line. */
function drawBreaks(plot: uPlot, breaks: Annotations["breaks"]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  const right = bbox.left + bbox.width;
  let free = bbox.left;
  ctx.setLineDash([2 * unit, 3 * unit]);
  for (const { x: place, attempt } of breaks) {
    const x = plot.valToPos(place, "x", true);
    if (x < bbox.left || x > right) continue;
    stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
    const words = `resumed ${clockTime(new Date(attempt.start * 1000))}, step ${whole(attempt.resumedStep ?? 0)}`;
    const width = ctx.measureText(words).width;
    const start = Math.min(Math.max(bbox.left, x - width / 2), right - width);
    if (start < free) continue;
    ctx.fillText(words, start, bbox.top - 6 * unit);
    free = start + width + 8 * unit;
  }
  ctx.setLineDash([]);
}

function drawReferences(plot: uPlot, references: Annotations["references"]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  ctx.setLineDash([6 * unit, 4 * unit]);
  for (const { value } of references) {
    const y = plot.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    stroke(ctx, bbox.left, y, bbox.left + bbox.width, y);
  }
  ctx.setLineDash([]);
}

function markNotFinite(plot: uPlot, places: number[]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  ctx.fillStyle = token("failed-ink");
  for (const place of places) {
    const x = plot.valToPos(place, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x - 5 * unit, bbox.top);
    ctx.lineTo(x + 5 * unit, bbox.top);
    ctx.lineTo(x, bbox.top + 8 * unit);
    ctx.fill();
  }
}

function markBest(plot: uPlot, place: number, value: number): void {
  const { ctx, bbox } = plot;
  const x = plot.valToPos(place, "x", true);
  const y = plot.valToPos(value, "y", true);
  if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1 || y < bbox.top || y > bbox.top + bbox.height) return;
  const size = 6 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(x, y - size);
  ctx.lineTo(x + size, y);
  ctx.lineTo(x, y + size);
  ctx.lineTo(x - size, y);
  ctx.closePath();
  ctx.fillStyle = token("run-1");
  ctx.strokeStyle = token("text");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.fill();
  ctx.stroke();
}

function stroke(ctx: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number): void {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}
