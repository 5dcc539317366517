// Colour ramps of maps. None of them is jet: its peak is darker than its middle.

type Colour = readonly [number, number, number];

const hex = (text: string): Colour => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)) as unknown as Colour;

// Over a grey micrograph: every step is far from every grey, for colour-blind readers too.
const OVER = ["#ed6925", "#fb9b06", "#f7d13d"].map(hex);
const OVER_ALPHA = 0.75;
// On its own: viridis (Smith and van der Walt, 2015), every 16th of its steps.
const ALONE = [
  "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
  "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
].map(hex);

function between(stops: readonly Colour[], share: number): number[] {
  const place = share * (stops.length - 1);
  const first = Math.min(Math.floor(place), stops.length - 2);
  return stops[first]!.map((value, channel) => Math.round(value + (stops[first + 1]![channel]! - value) * (place - first)));
}

/** Colour of each byte of a map: `over` a micrograph, its lowest parts clear, or `alone`. */
export function ramp(kind: "over" | "alone"): Map<number, number[]> {
  const table = new Map<number, number[]>();
  for (let value = 0; value < 256; value += 1) {
    const share = value / 255;
    const alpha = kind === "over" ? Math.round(255 * OVER_ALPHA * share) : 255;
    table.set(value, [...between(kind === "over" ? OVER : ALONE, share), alpha]);
  }
  return table;
}

export const LINE_OVER = "#f7d13d";
