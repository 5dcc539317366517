// A chart as a file: SVG drawn from the same points, and PNG at twice its size made of that SVG. Black on white, marks
// and line weights instead of colours alone, so that it can be read in a grey print.
import { BREAK_DASH, diamondPath, DOT, lineWidth, MARK_OUTLINE, REFERENCE_DASH, trianglePath } from "./marks";
import type { NotFinite, ReferenceLine } from "./marks";

export interface Figure {
  title: string;
  /** Job, revision, preset. */
  caption: string;
  xName: string;
  yName: string;
  x: [number, number];
  y: [number, number];
  log: boolean;
  xText: (x: number) => string;
  lines: { name: string; marked: boolean; points: { x: number; y: number | null }[] }[];
  breaks: { x: number; words: string }[];
  references: ReferenceLine[];
  notFinite: NotFinite[];
  /** The one point that is pointed out: the best one, or the one that was used. */
  mark: { x: number; y: number; text: string } | null;
}

const WIDTH = 640;
const HEIGHT = 400;
const BOX = { left: 72, top: 56, right: 100, bottom: 52 };
const INK = "#17202b";
const LINE = "#2789e0";
const GRID = "#d3d9e1";

function dashes(lengths: number[]): string {
  return `stroke-dasharray="${lengths.join(" ")}"`;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

export function svgOf(figure: Figure): string {
  const width = WIDTH - BOX.left - BOX.right;
  const height = HEIGHT - BOX.top - BOX.bottom;
  const scaled = (value: number): number => (figure.log ? Math.log10(value) : value);
  const [y0, y1] = [scaled(figure.y[0]), scaled(figure.y[1])];
  const px = (x: number): number => BOX.left + ((x - figure.x[0]) / (figure.x[1] - figure.x[0] || 1)) * width;
  const py = (y: number): number => BOX.top + height - ((scaled(y) - y0) / (y1 - y0 || 1)) * height;
  const inside = (x: number): boolean => x >= figure.x[0] && x <= figure.x[1];
  const out: string[] = [];
  const text = (x: number, y: number, words: string, more = ""): void => {
    out.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" fill="${INK}" ${more}>${escape(words)}</text>`);
  };

  text(BOX.left, 22, figure.title, 'font-size="16" font-weight="600"');
  text(BOX.left, 40, figure.caption);
  for (const value of figure.log ? logTicks(...figure.y) : roundTicks(...figure.y)) {
    out.push(`<path d="M${BOX.left} ${py(value).toFixed(1)}h${width}" stroke="${GRID}"/>`);
    text(BOX.left - 8, py(value) + 4, String(Number(value.toPrecision(6))), 'text-anchor="end"');
  }
  for (const x of roundTicks(...figure.x)) text(px(x), HEIGHT - 30, figure.xText(x), 'text-anchor="middle"');
  if (figure.mark) text(WIDTH - 16, 22, figure.mark.text, 'text-anchor="end"');
  text(BOX.left + width / 2, HEIGHT - 10, figure.xName, 'text-anchor="middle"');
  const middle = BOX.top + height / 2;
  text(16, middle, figure.yName, `text-anchor="middle" transform="rotate(-90 16 ${middle})"`);
  for (const { x, words } of figure.breaks.filter(({ x }) => inside(x))) {
    out.push(`<path d="M${px(x).toFixed(1)} ${BOX.top}v${height}" stroke="${INK}" ${dashes(BREAK_DASH)}/>`);
    text(px(x), BOX.top - 4, words, 'text-anchor="middle"');
  }
  for (const { x, words } of figure.notFinite.filter(({ x }) => inside(x))) {
    out.push(`<path d="${trianglePath(round(px(x)), BOX.top)}" fill="${INK}"/>`);
    text(px(x) + 8, BOX.top + 10, words);
  }
  for (const { value, label } of figure.references) {
    out.push(`<path d="M${BOX.left} ${py(value).toFixed(1)}h${width}" stroke="${INK}" ${dashes(REFERENCE_DASH)}/>`);
    text(WIDTH - BOX.right + 4, py(value) + 4, label);
  }
  for (const line of figure.lines) {
    const shown = line.points.filter((point) => inside(point.x) && point.y !== null) as { x: number; y: number }[];
    const drawn = path(shown, figure.breaks.map(({ x }) => x), px, py);
    out.push(`<path d="${drawn}" fill="none" stroke="${LINE}" stroke-width="${lineWidth(line.marked)}"/>`);
    if (line.marked) {
      for (const { x, y } of shown) {
        out.push(`<circle cx="${px(x).toFixed(1)}" cy="${py(y).toFixed(1)}" r="${DOT / 2}" fill="${LINE}"/>`);
      }
    }
    const last = shown.at(-1);
    if (last) text(px(last.x) + 6, py(last.y) + (line.marked ? -4 : 12), line.name);
  }
  if (figure.mark && inside(figure.mark.x)) {
    const [x, y] = [px(figure.mark.x), py(figure.mark.y)];
    out.push(`<path d="${diamondPath(x, y)}" fill="${LINE}" stroke="${INK}" stroke-width="${MARK_OUTLINE}"/>`);
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" ` +
    `font-family="system-ui, sans-serif" font-size="12"><path d="M0 0h${WIDTH}v${HEIGHT}H0z" fill="#fff"/>${out.join("")}</svg>`
  );
}

/** About 5 round values between the two. */
function roundTicks(low: number, high: number): number[] {
  const rough = (high - low) / 5;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((one) => one * power >= rough) ?? 10);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) ticks.push(n * step);
  return ticks;
}

/** 1, 2 and 5 of every decade. */
function logTicks(low: number, high: number): number[] {
  const ticks = [];
  for (let n = Math.floor(Math.log10(low)); n <= Math.ceil(Math.log10(high)); n += 1) {
    for (const one of [1, 2, 5]) ticks.push(one * 10 ** n);
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

/** A line that is lifted at every break. */
function path(
  points: { x: number; y: number }[],
  breaks: number[],
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  let before = -Infinity;
  return points
    .map(({ x, y }) => {
      const lifted = before === -Infinity || breaks.some((at) => at > before && at < x);
      before = x;
      return `${lifted ? "M" : "L"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
    })
    .join("");
}

function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function fileName(figure: Figure, suffix: string): string {
  return `job ${figure.caption} ${figure.title}`.replace(/[^\w.]+/g, "-").replace(/^-|-$/g, "") + suffix;
}

/** Buttons that save the figure as it is then; its subject is `name`. */
export function exportButtons(name: string, figure: () => Figure): HTMLButtonElement[] {
  return ([["PNG", savePng], ["SVG", saveSvg]] as const).map(([format, save]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: format });
    button.setAttribute("aria-label", `Save ${name} as ${format}`);
    button.addEventListener("click", () => void save(figure()));
    return button;
  });
}

function saveSvg(figure: Figure): void {
  save(new Blob([svgOf(figure)], { type: "image/svg+xml" }), fileName(figure, ".svg"));
}

async function savePng(figure: Figure): Promise<void> {
  const address = URL.createObjectURL(new Blob([svgOf(figure)], { type: "image/svg+xml" }));
  const image = new Image();
  image.src = address;
  await image.decode();
  URL.revokeObjectURL(address);
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH * 2, height: HEIGHT * 2 });
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => blob && save(blob, fileName(figure, ".png")), "image/png");
}
