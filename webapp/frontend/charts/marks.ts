// What a chart shows beside its values, and the shapes of it: the same on the page and in an exported file.

/** A horizontal line to compare with. */
export interface ReferenceLine {
  value: number;
  label: string;
}

/** A point whose value was not finite: a mark on the upper edge. */
export interface NotFinite {
  x: number;
  words: string;
}

/** Dashes and gaps, in CSS pixels. */
export const BREAK_DASH = [2, 3];
export const REFERENCE_DASH = [6, 4];

/** SVG path commands, from the upper edge downwards, and around the one point that is pointed out. */
const TRIANGLE = "m-5 0h10l-5 8z";
const DIAMOND = "m0-6l6 6-6 6-6-6z";

export function trianglePath(x: number, y: number): string {
  return `M${x} ${y}${TRIANGLE}`;
}

export function diamondPath(x: number, y: number): string {
  return `M${x} ${y}${DIAMOND}`;
}

export const MARK_OUTLINE = 1.5;

/** Width of a line: what was measured on validation stands out. */
export function lineWidth(validation: boolean): number {
  return validation ? 2 : 1.25;
}

/** Diameter of the dot at each validation point. */
export const DOT = 6;

/** `path` at `ratio` times its size; its own origin stays the origin of the canvas. */
export function scaledPath(path: string, ratio: number): Path2D {
  const scaled = new Path2D();
  scaled.addPath(new Path2D(path), { a: ratio, d: ratio });
  return scaled;
}
