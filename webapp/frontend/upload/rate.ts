// How much has been sent, how fast, and how long the rest takes.
import { duration } from "../shared/times";

const WINDOW_MS = 3000;

/** Bytes with the unit that leaves 1 to 3 digits before the point, as the server writes them. */
export function bytes(value: number): string {
  let number = value;
  let unit = "bytes";
  for (const larger of ["kB", "MB", "GB", "TB"]) {
    if (number < 999.5) break;
    number /= 1000;
    unit = larger;
  }
  return `${unit === "bytes" || number >= 9.95 ? number.toFixed(0) : number.toFixed(1)} ${unit}`;
}

/** "412 of 531 MB": the unit once where both have the same. */
function progressText(done: number, total: number): string {
  const unit = bytes(total).split(" ")[1]!;
  const [number, own] = bytes(done).split(" ") as [string, string];
  return own === unit || !done ? `${number} of ${bytes(total)}` : `${number} ${own} of ${bytes(total)}`;
}

/** "412 of 531 MB · 38 MB/s · 3 s left". */
export function sendingWords(sent: number, total: number, rate: number | null): string {
  const parts = [progressText(sent, total)];
  if (rate && sent < total) parts.push(`${bytes(rate)}/s`, `${duration((total - sent) / rate)} left`);
  return parts.join(" · ");
}

/** Bytes per second over the last seconds. */
export class Rate {
  private readonly marks: { time: number; done: number }[] = [];

  add(done: number): void {
    const time = performance.now();
    this.marks.push({ time, done });
    while (this.marks.length > 2 && time - this.marks[0]!.time > WINDOW_MS) this.marks.shift();
  }

  clear(): void {
    this.marks.length = 0;
  }

  get value(): number | null {
    const first = this.marks[0];
    const last = this.marks.at(-1);
    if (!first || !last || last.time - first.time < 500) return null;
    return Math.max(0, ((last.done - first.done) / (last.time - first.time)) * 1000);
  }
}
