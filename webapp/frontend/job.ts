// The page of one job: curves, pictures, log and state as they come.
import "./styles/job.css";
import "./styles/results.css";
import { Charts } from "./charts/chart_set";
import type { Reference } from "./charts/chart";
import { bindCopying } from "./shared/clipboard";
import { bindKeys } from "./shared/keys";
import { connect, type JobEvent, type JobSnapshot, type Message, type Progress } from "./job/live";
import { Log } from "./job/log";
import { whole } from "./shared/numbers";
import { Pictures } from "./job/picture_sheets";
import { Points } from "./charts/series";
import { drawThresholds } from "./charts/threshold_chart";
import { clockTime, duration, sayTimesLocally } from "./shared/times";

interface Page {
  id: number;
  caption: string;
  snapshot: JobSnapshot;
  references: Reference[];
}

const element = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const page = JSON.parse(element("page").textContent) as Page;
const OWNED = new Set(["running", "stopping"]);
/** Parts that the server writes; fetched again when the job's state changes. */
const SERVER_PARTS = ["actions", "sentence", "results", "record"];

const points = new Points();
points.stepsPerEpoch = page.snapshot.steps_per_epoch;
const charts = new Charts(points, element("charts"), element("readout"), element("points"), page.references, page.caption);
const pictures = new Pictures(element("pictures"), element("sheets"));
const log = new Log(element("notes"), element("log-text"), element("log-details"), element("follow"));

function take(event: JobEvent): void {
  if (points.add(event)) charts.changed();
  if (event.kind === "point") {
    if (element("curves").hidden) {
      element("curves").hidden = element("to-curves").hidden = false;
      element("no-points").hidden = true;
    }
  } else if (pictures.add(event)) element("to-pictures").hidden = false;
  else log.add(event);
}

function receive({ job, events }: Message): void {
  points.stepsPerEpoch = job.steps_per_epoch;
  for (const event of events) take(event);
  show(job);
}

let shown = { state: page.snapshot.state, may: page.snapshot.may.join() };

function show(job: JobSnapshot): void {
  const may = job.may.join();
  if (job.state !== shown.state || may !== shown.may) {
    if (job.state !== shown.state) showChip(job.state);
    if (job.state === "failed") element<HTMLDetailsElement>("log-details").open = true;
    shown = { state: job.state, may };
    void refetch();
  }
  const running = OWNED.has(job.state);
  log.setRunning(running);
  element("no-points").hidden = !running || points.series.size > 0;
  showProgress(job, running);
  const steps = document.getElementById("steps");
  if (steps && job.total_steps) steps.textContent = `${whole(job.step)} of ${whole(job.total_steps)}`;
  element("second-line").textContent = secondLine(job, running);
}

function showChip(state: string): void {
  const chips = element<HTMLTemplateElement>("chips").content;
  const chip = chips.querySelector(`.chip.${CSS.escape(state)}`);
  if (chip) element("state").replaceChildren(chip.cloneNode(true));
}

function showProgress(job: JobSnapshot, running: boolean): void {
  const bar = element<HTMLProgressElement>("progress");
  const progress = job.progress as Partial<Progress>;
  // No bar while the total is unknown: an empty one reads as zero.
  bar.hidden = !running || !progress.total;
  if (progress.total) {
    bar.max = progress.total;
    bar.value = progress.done ?? 0;
  }
  let words = "";
  if (running) words = progressWords(job);
  else if (job.ended_at && job.started_at) {
    const took = (Date.parse(job.ended_at) - Date.parse(job.started_at)) / 1000;
    words = `${clockTime(new Date(job.ended_at))} · took ${duration(took)}`;
  } else if (job.checkpoint_step !== null) words = `checkpoint at step ${whole(job.checkpoint_step)}`;
  const target = element("progress-words");
  if (target.textContent !== words) target.textContent = words;
}

/** The same words as `webapp.jobs.results.progress_text.progress_words`. */
function progressWords(job: JobSnapshot): string {
  const progress = job.progress as Partial<Progress>;
  if (!progress.unit && !progress.total) return "starting";
  const parts: string[] = [];
  if (job.steps_per_epoch && job.total_steps) {
    const epochs = Math.ceil(job.total_steps / job.steps_per_epoch);
    parts.push(`epoch ${whole(Math.min(Math.floor(job.step / job.steps_per_epoch) + 1, epochs))} of ${whole(epochs)}`);
  } else {
    const stage = progress.stage ? `${progress.stage}: ` : "";
    const done = whole(progress.done ?? 0);
    parts.push(progress.total ? `${stage}${done} of ${whole(progress.total)} ${progress.unit}` : `${stage}${done} ${progress.unit} so far`);
  }
  // What a silent worker said last is no news: neither rate nor time left stands there as if it were.
  if (job.silent_seconds !== null) return parts.join(" · ");
  if (progress.rate) parts.push(rateWords(progress.rate, progress.unit ?? ""));
  if (progress.left !== null && progress.left !== undefined) parts.push(`about ${duration(progress.left)} left`);
  return parts.join(" · ");
}

function rateWords(rate: number, unit: string): string {
  if (rate < 1) return `${Number((rate * 60).toPrecision(2))} ${unit}/min`;
  return `${rate >= 10 ? whole(rate) : Number(rate.toPrecision(2))} ${unit}/s`;
}

function secondLine(job: JobSnapshot, running: boolean): string {
  if (!running) return "";
  const said: string[] = [];
  if (job.silent_seconds !== null) said.push(`No signal from the worker for ${duration(job.silent_seconds)}`);
  if (job.attempt > 1) said.push(`attempt ${whole(job.attempt)}`);
  if (job.device) said.push(job.device);
  if (job.checkpoint_step !== null) said.push(`checkpoint at step ${whole(job.checkpoint_step)}`);
  return said.join(" · ");
}

/** Takes over what only the server can say about the new state. */
async function refetch(): Promise<void> {
  const answer = await fetch(location.pathname, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of SERVER_PARTS) {
    const part = fresh.getElementById(id);
    if (!part) continue;
    document.getElementById(id)?.replaceWith(document.adoptNode(part));
  }
  element("to-results").hidden = element("results").hidden;
  sayTimesLocally();
  void drawThresholds(page.caption);
}

function showLost(since: Date | null): void {
  const strip = element("lost");
  strip.hidden = since === null;
  if (since) strip.querySelector("span")!.textContent = `Live link lost at ${clockTime(since)}. Showing what is stored; trying again.`;
}

charts.bindOptions(element<HTMLFormElement>("curve-options"));
element("zoom-in").addEventListener("click", () => charts.zoom(0.5));
element("zoom-out").addEventListener("click", () => charts.zoom(2));
element("zoom-all").addEventListener("click", () => charts.whole());
bindKeys({
  ArrowLeft: () => charts.walk(-1),
  ArrowRight: () => charts.walk(1),
  e: () => charts.toBest(),
  l: () => element("log").scrollIntoView(),
});
bindCopying();
void drawThresholds(page.caption);
show(page.snapshot);
connect(page.id, receive, { onLost: showLost });
