// The log: the notes of the job, line by line, and below it the trainer's own output.
import type { JobEvent } from "./live";
import { clockTime } from "../shared/times";

const LINES = 1000;
const REFRESH_MS = 3000;

export class Log {
  private running = false;
  private lastNote = "";
  private shown = "";

  constructor(
    private readonly notes: HTMLElement,
    private readonly text: HTMLElement,
    private readonly details: HTMLDetailsElement,
    private readonly follow: HTMLInputElement,
  ) {
    details.addEventListener("toggle", () => void this.refresh());
    window.setInterval(() => {
      if (this.running && this.follow.checked && !document.hidden) void this.refresh();
    }, REFRESH_MS);
    void this.refresh();
  }

  setRunning(running: boolean): void {
    const ended = this.running && !running;
    this.running = running;
    if (ended) void this.refresh();
  }

  add(event: JobEvent): void {
    const words = sentence(event, this.lastNote);
    if (!words) return;
    this.lastNote = words;
    const item = document.createElement("li");
    const time = Object.assign(document.createElement("time"), {
      dateTime: event.time,
      textContent: clockTime(new Date(event.time)),
      className: "caption",
    });
    const level = event.kind === "note" ? String(event.data?.["level"] ?? "info") : event.kind;
    item.className = level;
    item.append(time, Object.assign(document.createElement("span"), { textContent: words }));
    this.notes.append(item);
    while (this.notes.children.length > LINES) this.notes.firstElementChild!.remove();
    if (this.follow.checked) this.notes.scrollTop = this.notes.scrollHeight;
  }

  private async refresh(): Promise<void> {
    if (!this.details.open) return;
    const answer = await fetch(this.text.dataset["address"]!, { credentials: "same-origin" }).catch(() => null);
    if (!answer?.ok || answer.redirected) return;
    const words = await answer.text();
    if (words === this.shown) return;
    this.shown = words;
    this.text.textContent = words;
    const error = lastErrorLine(words);
    if (error && !this.running) this.scrollTo(error);
    else if (this.follow.checked) this.text.scrollTop = this.text.scrollHeight;
  }

  /** Brings a line of the output to the top of its frame. */
  private scrollTo(line: { start: number; end: number }): void {
    const range = document.createRange();
    range.setStart(this.text.firstChild!, line.start);
    range.setEnd(this.text.firstChild!, line.end);
    this.text.scrollTop += range.getBoundingClientRect().top - this.text.getBoundingClientRect().top;
    CSS.highlights.set("error-line", new Highlight(range));
  }
}

/** Where the last line lies that names an error, as the end of a traceback does; null where no line does. */
function lastErrorLine(output: string): { start: number; end: number } | null {
  const line = [...output.matchAll(/^[\w.]*(?:Error|Exception|Interrupt)\b.*$/gm)].at(-1);
  return line ? { start: line.index, end: line.index + line[0].length } : null;
}

/** The text of an event; the reason of a state is left out where it was the note just before. */
function sentence(event: JobEvent, lastNote: string): string {
  const data = event.data ?? {};
  if (event.kind === "note") return String(data["text"] ?? "");
  if (event.kind === "state") {
    const reason = data["reason"] && data["reason"] !== lastNote ? `: ${String(data["reason"])}` : "";
    const place = data["device"] && data["to"] === "running" ? ` on ${String(data["device"])}` : "";
    const to = String(data["to"] ?? "");
    return `${to.charAt(0).toUpperCase()}${to.slice(1)}${place}${reason}`;
  }
  if (event.kind === "attempt" && typeof data["resumed_step"] === "number") {
    return `Attempt ${String(data["number"])} started again from step ${data["resumed_step"].toLocaleString("en-US")}.`;
  }
  return "";
}
