// Times come from the server in its time zone; here they are shown in the reader's.
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const fullTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** 14:03, or 23 Nov 14:03 when it was not today. */
export function clockTime(time: Date, now = new Date()): string {
  const text = clock.format(time);
  return time.toDateString() === now.toDateString() ? text : `${day.format(time)} ${text}`;
}

/** Rewrites every <time data-local> under `root`. */
export function showLocalTimes(root: ParentNode = document): void {
  for (const element of root.querySelectorAll<HTMLTimeElement>("time[data-local]")) {
    const time = new Date(element.dateTime);
    const text = clockTime(time);
    if (element.textContent !== text) element.textContent = text;
    element.title = fullTime.format(time);
  }
}

/** Seconds in words: 8 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (large: number, unit: string, small: number, rest: string): string => {
    const left = Math.floor((s % large) / small);
    return `${Math.floor(s / large)} ${unit}${left ? ` ${left} ${rest}` : ""}`;
  };
  if (s < 60) return `${s} s`;
  if (s < 600) return two(60, "min", 1, "s");
  if (s < 3600) return `${Math.round(s / 60)} min`;
  return s < 86400 ? two(3600, "h", 60, "min") : two(86400, "d", 3600, "h");
}
