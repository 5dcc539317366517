// The shared x axis of a job's charts: what it is called, and how a place on it is written.
import { integerText, numberText } from "../shared/numbers";
import type { XAxis } from "./series";
import { clockTime, duration } from "../shared/times";

export const AXIS_NAMES: Record<XAxis, string> = {
  step: "step",
  epoch: "epoch",
  running: "running time",
  clock: "clock time",
};

/** A tick's label. */
export function tickText(x: number, axis: XAxis): string {
  if (axis === "clock") return clockTime(new Date(x * 1000));
  if (axis === "running") return duration(x);
  return Number.isInteger(x) ? integerText(x) : numberText(x);
}

/** A place on the axis, in words. */
export function placeText(x: number, axis: XAxis): string {
  if (axis === "step") return `step ${integerText(x)}`;
  return axis === "epoch" ? `epoch ${x.toFixed(2)}` : tickText(x, axis);
}
