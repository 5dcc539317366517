// The points of one job: each series sorted by step, each step once, and where attempts began.
import type { JobEvent } from "../job/live";

export interface Point {
  step: number;
  attempt: number;
  /** null: the value was not finite; `reason` is what it was. */
  value: number | null;
  low: number | null;
  high: number | null;
  /** Unix seconds. */
  time: number;
  reason: string;
}

export interface Attempt {
  epoch: number;
  start: number;
  /** The step from which it went on; null for a fresh start. */
  resumedStep: number | null;
}

export type XAxis = "step" | "epoch" | "running" | "clock";

/** Points of one name, as "loss/train". */
export class Series {
  readonly quantity: string;
  readonly part: string;
  readonly points: Point[] = [];

  constructor(readonly name: string) {
    const [quantity, part] = name.split("/");
    this.quantity = quantity ?? name;
    this.part = part ?? "";
  }

  add(point: Point): void {
    const last = this.points.at(-1);
    if (!last || point.step > last.step) {
      this.points.push(point);
      return;
    }
    const at = this.find(point.step);
    const found = this.points[at];
    // A resumed attempt reports the steps after its checkpoint again: the higher attempt replaces the lower.
    if (found?.step === point.step) {
      if (point.attempt >= found.attempt) this.points[at] = point;
    } else {
      this.points.splice(at, 0, point);
    }
  }

  /** Index of the first point whose step is not below `step`. */
  private find(step: number): number {
    let low = 0;
    let high = this.points.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle]!.step < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export class Points {
  readonly series = new Map<string, Series>();
  readonly attempts: Attempt[] = [];
  stepsPerEpoch: number | null = null;
  private readonly lastEvent = new Map<number, number>();

  /** Takes in one event of any kind; returns whether a curve has changed. */
  add(event: JobEvent): boolean {
    const time = Date.parse(event.time) / 1000;
    this.lastEvent.set(event.epoch, Math.max(time, this.lastEvent.get(event.epoch) ?? 0));
    if (event.kind === "attempt") {
      const resumed = event.data?.["resumed_step"];
      this.attempts.push({ epoch: event.epoch, start: time, resumedStep: typeof resumed === "number" ? resumed : null });
      return true;
    }
    if (event.kind !== "point" || event.step === null) return false;
    let series = this.series.get(event.name);
    if (!series) this.series.set(event.name, (series = new Series(event.name)));
    const { step, value, low, high } = event;
    const reason = typeof event.data?.["reason"] === "string" ? event.data["reason"] : "";
    series.add({ step, attempt: event.epoch, value, low, high, time, reason });
    return true;
  }

  /** The resumed attempts: where the record has a break. */
  get breaks(): Attempt[] {
    return this.attempts.filter((attempt) => attempt.resumedStep !== null);
  }

  /** A function from a point to its place on `axis`. Running time leaves the pauses between attempts out. */
  placer(axis: XAxis): (point: { step: number; attempt: number; time: number }) => number {
    if (axis === "step") return (point) => point.step;
    if (axis === "epoch") return (point) => point.step / (this.stepsPerEpoch ?? 1);
    if (axis === "clock") return (point) => point.time;
    const zero = new Map<number, number>();
    let ran = 0;
    for (const { epoch, start } of this.attempts) {
      zero.set(epoch, start - ran);
      ran += Math.max(0, (this.lastEvent.get(epoch) ?? start) - start);
    }
    return (point) => point.time - (zero.get(point.attempt) ?? this.attempts[0]?.start ?? point.time);
  }

  /** Where the pause before `attempt` began on `axis`: other axes than clock time know no pause. */
  placeOfPause(attempt: Attempt, axis: XAxis): number {
    if (axis !== "clock") return this.placeOfBreak(attempt, axis);
    const earlier = [...this.lastEvent].filter(([epoch]) => epoch < attempt.epoch);
    return Math.max(...earlier.map(([, time]) => time), -Infinity);
  }

  /** Where a break lies on `axis`: after the last step that was kept. */
  placeOfBreak(attempt: Attempt, axis: XAxis): number {
    if (axis === "step" || axis === "epoch") {
      const half = { step: attempt.resumedStep! + 0.5, attempt: attempt.epoch, time: attempt.start };
      return this.placer(axis)(half);
    }
    return this.placer(axis)({ step: attempt.resumedStep!, attempt: attempt.epoch, time: attempt.start });
  }
}

const HIGHER_IS_BETTER = /(iou|dice|accuracy|precision|recall)/;

const LOWER_IS_BETTER = /^(loss|cross_entropy|ab_error)$/;

/** Whether values of this quantity lie between 0 and 1. */
export function isRatio(quantity: string): boolean {
  return HIGHER_IS_BETTER.test(quantity);
}

/** The point whose place is nearest to `x`; `place` grows along the points. */
export function nearest(points: Point[], x: number, place: (point: Point) => number): Point | undefined {
  let low = 0;
  let high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (place(points[middle]!) < x) low = middle + 1;
    else high = middle;
  }
  const before = points[low - 1];
  const after = points[low];
  if (!before || !after) return before ?? after;
  return x - place(before) <= place(after) - x ? before : after;
}

/** The best measured point of a validation series; null for what has no better or worse. */
export function bestOf(series: Series): Point | null {
  if (series.part !== "validation") return null;
  const sign = isRatio(series.quantity) ? 1 : LOWER_IS_BETTER.test(series.quantity) ? -1 : 0;
  if (!sign) return null;
  let best: Point | null = null;
  for (const point of series.points) {
    if (point.value === null) continue;
    if (!best || sign * point.value > sign * best.value!) best = point;
  }
  return best;
}

/** Debiased exponential mean over all points, begun anew after every break. */
export function smoothed(points: Point[], weight: number): (number | null)[] {
  let mean = 0;
  let mass = 0;
  let attempt = points[0]?.attempt;
  return points.map((point) => {
    if (point.attempt !== attempt) {
      mean = mass = 0;
      attempt = point.attempt;
    }
    if (point.value === null) return null;
    mean = weight * mean + (1 - weight) * point.value;
    mass = weight * mass + (1 - weight);
    return mean / mass;
  });
}
