// What a chart draws beside its lines: restarts, references, values that were not finite, the best.
import type uPlot from "uplot";
import { token } from "../shared/theme_colours";
import { integerText } from "../shared/numbers";
import { BREAK_DASH, diamondPath, MARK_OUTLINE, REFERENCE_DASH, scaledPath, trianglePath } from "./marks";
import type { NotFinite, ReferenceLine } from "./marks";
import type { Attempt } from "./series";
import { clockTime } from "../shared/times";

export interface Annotations {
  /** `from`: where the pause before it began; the same place unless the axis is clock time. */
  breaks: { x: number; from: number; attempt: Attempt }[];
  references: ReferenceLine[];
  notFinite: NotFinite[];
  best: { x: number; y: number } | null;
  /** Names at the right ends of the lines. */
  ends: { y: number; words: string }[];
}

export function annotate(plot: uPlot, { breaks, references, notFinite, best, ends }: Annotations): void {
  const { ctx } = plot;
  ctx.save();
  ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  ctx.lineWidth = devicePixelRatio;
  ctx.strokeStyle = ctx.fillStyle = token("muted");
  drawBreaks(plot, breaks);
  drawReferences(plot, references, ends);
  markNotFinite(plot, notFinite);
  nameEnds(plot, ends);
  if (best) markBest(plot, best.x, best.y);
  ctx.restore();
}

/** "resumed 14:03, step 12,400" */
export function breakText(attempt: Attempt): string {
  return `resumed ${clockTime(new Date(attempt.start * 1000))}, step ${integerText(attempt.resumedStep ?? 0)}`;
}

/** Dotted verticals, named above the plot where there is room, so that no text lies over a line; on clock time
 * the pause is shaded. */
function drawBreaks(plot: uPlot, breaks: Annotations["breaks"]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  const right = bbox.left + bbox.width;
  let free = bbox.left;
  ctx.setLineDash(BREAK_DASH.map((length) => length * unit));
  for (const { x: place, from, attempt } of breaks) {
    const x = plot.valToPos(place, "x", true);
    if (x < bbox.left || x > right) continue;
    if (from < place) shade(plot, Math.max(bbox.left, plot.valToPos(from, "x", true)), x);
    stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
    const words = breakText(attempt);
    const width = ctx.measureText(words).width;
    const start = Math.min(Math.max(bbox.left, x - width / 2), right - width);
    if (start < free) continue;
    ctx.fillText(words, start, bbox.top - 6 * unit);
    free = start + width + 8 * unit;
  }
  ctx.setLineDash([]);
}

function shade({ ctx, bbox }: uPlot, left: number, right: number): void {
  ctx.globalAlpha = 0.15;
  ctx.fillRect(left, bbox.top, right - left, bbox.height);
  ctx.globalAlpha = 1;
}

/** Names beside the last points, moved apart where they would lie over each other. */
function nameEnds(plot: uPlot, ends: Annotations["ends"]): void {
  const { ctx, bbox } = plot;
  const line = 14 * devicePixelRatio;
  const bottom = bbox.top + bbox.height;
  ctx.fillStyle = token("muted");
  const places = ends
    .map(({ y, words }) => ({ y: plot.valToPos(y, "y", true), words }))
    .filter(({ y }) => y >= bbox.top && y <= bottom)
    .sort((a, b) => a.y - b.y);
  let free = bbox.top;
  for (const [index, { y, words }] of places.entries()) {
    const most = bottom - (places.length - 1 - index) * line;
    const at = Math.min(Math.max(y, free), most);
    ctx.fillText(words, bbox.left + bbox.width + 10 * devicePixelRatio, at + line / 3);
    free = at + line;
  }
}

/** Dashed, each named at its right end, on the side that the lines do not end on. */
function drawReferences(plot: uPlot, references: Annotations["references"], ends: Annotations["ends"]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  ctx.setLineDash(REFERENCE_DASH.map((length) => length * unit));
  for (const { value, label } of references) {
    const y = plot.valToPos(value, "y", true);
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    stroke(ctx, bbox.left, y, bbox.left + bbox.width, y);
    const below = y - bbox.top < 16 * unit || ends.some((end) => end.y > value);
    ctx.fillText(label, bbox.left + bbox.width - ctx.measureText(label).width - 4 * unit, below ? y + 13 * unit : y - 4 * unit);
  }
  ctx.setLineDash([]);
}

/** ▼ on the upper edge, with its step where there is room. */
function markNotFinite(plot: uPlot, places: Annotations["notFinite"]): void {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  ctx.fillStyle = token("failed-ink");
  let free = bbox.left;
  for (const { x: place, words } of places) {
    const x = plot.valToPos(place, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.fill(scaledPath(trianglePath(x / unit, bbox.top / unit), unit));
    const width = ctx.measureText(words).width;
    const start = Math.min(x + 8 * unit, bbox.left + bbox.width - width);
    if (start < free) continue;
    ctx.fillText(words, start, bbox.top + 20 * unit);
    free = start + width + 8 * unit;
  }
}

function markBest(plot: uPlot, place: number, value: number): void {
  const { ctx, bbox } = plot;
  const x = plot.valToPos(place, "x", true);
  const y = plot.valToPos(value, "y", true);
  if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1 || y < bbox.top || y > bbox.top + bbox.height) return;
  const unit = devicePixelRatio;
  const diamond = scaledPath(diamondPath(x / unit, y / unit), unit);
  ctx.fillStyle = token("run-1");
  ctx.strokeStyle = token("text");
  ctx.lineWidth = MARK_OUTLINE * unit;
  ctx.fill(diamond);
  ctx.stroke(diamond);
}

function stroke(ctx: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number): void {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}
