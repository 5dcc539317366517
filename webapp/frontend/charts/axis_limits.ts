// How far the axes of a chart reach.
export interface View {
  min: number;
  max: number;
}

/** A ratio's axis is never less tall than this: noise must not look like a finding. */
const LEAST_RATIO_HEIGHT = 0.1;
/** Room above and below the data, of its height. */
const ROOM = 0.06;

/** What is in view, else all of the data. */
export function xRange(view: View | null, least: number | null, most: number | null): [number, number] {
  if (view) return [view.min, view.max];
  if (least === null || most === null) return [0, 1];
  return least === most ? [least - 1, most + 1] : [least, most];
}

/** The data's own range and that of the reference lines `marks`, with room around them. */
export function yRange(least: number | null, most: number | null, marks: number[]): [number, number] {
  const low = Math.min(least ?? 0, ...marks);
  const high = Math.max(most ?? 1, ...marks);
  const room = (high - low) * ROOM || Math.abs(high) * ROOM || 1;
  return [low - room, high + room];
}

/** The same for values between 0 and 1, or `whole` of these. */
export function ratioRange(
  least: number | null,
  most: number | null,
  { marks, whole }: { marks: number[]; whole: boolean },
): [number, number] {
  if (whole) return [0, 1];
  const [low, high] = yRange(least, most, marks);
  const middle = (low + high) / 2;
  const half = Math.max(high - low, LEAST_RATIO_HEIGHT) / 2;
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
