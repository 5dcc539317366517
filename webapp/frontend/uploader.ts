// Uploads: dropped or picked files go up in pieces, resume after a cut or a reload, and are followed until they are read.
import * as tus from "tus-js-client";
import { connect, type JobSnapshot } from "./live";
import { whole } from "./numbers";
import { duration } from "./times";
import { filesDropped, filesPicked, markOf, parcels, type Parcel } from "./upload/dropped";
import { zipOf } from "./upload/zip";

const PIECE = 8 * 2 ** 20;
// A cut is tried again for about two minutes; then the row says so and offers to go on.
const RETRIES = [0, 1000, 2000, 4000, 8000, 15000, 30000, 60000];
const RATE_OVER = 3000;

const TITLE = document.title;
let busy = 0;

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
function of(done: number, total: number): string {
  const unit = bytes(total).split(" ")[1]!;
  const [number, own] = bytes(done).split(" ") as [string, string];
  return own === unit || !done ? `${number} of ${bytes(total)}` : `${number} ${own} of ${bytes(total)}`;
}

/** Bytes per second over the last seconds. */
class Rate {
  private readonly marks: { time: number; done: number }[] = [];

  add(done: number): void {
    const time = performance.now();
    this.marks.push({ time, done });
    while (this.marks.length > 2 && time - this.marks[0]!.time > RATE_OVER) this.marks.shift();
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

/** One line of the list of uploads. */
class Row {
  readonly element: HTMLElement;
  private readonly words: HTMLElement;
  private readonly progress: HTMLProgressElement;
  readonly pause: HTMLButtonElement;
  readonly discard: HTMLButtonElement;

  constructor(list: HTMLElement, template: HTMLTemplateElement, name: string) {
    this.element = (template.content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
    const find = <E extends HTMLElement>(part: string): E => this.element.querySelector<E>(`[data-part="${part}"]`)!;
    find("name").textContent = name;
    this.words = find("words");
    this.progress = find("progress");
    this.pause = find("pause");
    this.discard = find("discard");
    list.append(this.element);
  }

  say(words: string, done?: number, total?: number): void {
    this.words.textContent = words;
    this.progress.hidden = !total;
    if (total) {
      this.progress.max = total;
      this.progress.value = done ?? 0;
    }
  }

  /** A sentence that needs the reader. */
  trouble(words: string): void {
    this.element.classList.add("trouble");
    this.say(words);
  }

  calm(): void {
    this.element.classList.remove("trouble");
  }
}

/** "Reading: 97 of 165 files · 3 s left". */
export function readingWords(job: JobSnapshot): string {
  const { progress } = job;
  if (job.state === "queued" || job.state === "waiting") return "Arrived. Waiting to be read";
  if (!("done" in progress)) return "Reading: starting";
  const counted = progress.total
    ? `Reading: ${whole(progress.done)} of ${whole(progress.total)} ${progress.unit}`
    : `Reading: ${whole(progress.done)} ${progress.unit} so far`;
  return progress.left === null || progress.left < 1 ? counted : `${counted} · ${duration(progress.left)} left`;
}

const ENDED = new Set(["done", "failed", "cancelled"]);

/** Calls `ended` once the job has ended; `say` with each snapshot before. */
export function followReading(jobId: number, say: (job: JobSnapshot) => void, ended: () => void): void {
  const link = connect(jobId, ({ job, more }) => {
    if (!ENDED.has(job.state)) say(job);
    else if (!more) {
      link.close();
      ended();
    }
  });
}

export class Uploader {
  private readonly waiting: Parcel[] = [];
  private running = false;
  private readonly list: HTMLElement;
  private readonly template: HTMLTemplateElement;
  private readonly token: string;

  /** `root` holds the list, the row's template and the address; `changed` is called when the dataset may have. */
  constructor(
    private readonly root: HTMLElement,
    private readonly changed: () => void,
  ) {
    this.list = root.querySelector<HTMLElement>("#upload-list")!;
    this.template = root.querySelector<HTMLTemplateElement>("#upload-row")!;
    this.token = document.querySelector<HTMLInputElement>('input[name="csrfmiddlewaretoken"]')?.value ?? "";
    this.bind();
    // Nobody loses half an hour by closing a tab without a word.
    window.addEventListener("beforeunload", (event) => {
      if (busy) event.preventDefault();
    });
  }

  private bind(): void {
    for (const input of this.root.querySelectorAll<HTMLInputElement>('input[type="file"]')) {
      input.addEventListener("change", () => {
        if (input.files) this.add(parcels(filesPicked(input.files)));
        input.value = "";
      });
    }
    for (const button of this.root.querySelectorAll<HTMLElement>("[data-discard]")) {
      button.addEventListener("click", () => void this.discard(button));
    }
    const zone = this.root.querySelector<HTMLElement>("#drop-zone")!;
    let over = 0;
    const isFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    // The whole page takes the drop: a file that misses the zone must not replace the page.
    document.addEventListener("dragenter", (event) => {
      if (!isFiles(event)) return;
      over += 1;
      zone.classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (isFiles(event) && (over -= 1) <= 0) zone.classList.remove("over");
    });
    document.addEventListener("dragover", (event) => {
      if (isFiles(event)) event.preventDefault();
    });
    document.addEventListener("drop", (event) => {
      if (!isFiles(event) || !event.dataTransfer) return;
      event.preventDefault();
      over = 0;
      zone.classList.remove("over");
      void filesDropped(event.dataTransfer).then((files) => this.add(parcels(files)));
    });
  }

  /** Gives up an upload that was begun elsewhere or before a reload. */
  private async discard(button: HTMLElement): Promise<void> {
    const headers = { "X-CSRFToken": this.token, "Tus-Resumable": "1.0.0" };
    const answer = await fetch(button.dataset["discard"]!, { method: "DELETE", headers, credentials: "same-origin" });
    if (answer.ok || answer.status === 404 || answer.status === 410) button.closest(".upload")!.remove();
    else this.changed();
  }

  private add(parcels: Parcel[]): void {
    this.waiting.push(...parcels);
    void this.run();
  }

  private async run(): Promise<void> {
    // One after another: two at once share the same line and only make both late.
    if (this.running) return;
    this.running = true;
    for (let parcel = this.waiting.shift(); parcel; parcel = this.waiting.shift()) await this.send(parcel);
    this.running = false;
  }

  private async send(parcel: Parcel): Promise<void> {
    const row = new Row(this.list, this.template, parcel.name);
    busy += 1;
    try {
      const body = await this.bodyOf(parcel, row);
      const url = await this.upload(parcel, body, row);
      if (url) await this.follow(url, row);
    } catch (error) {
      row.trouble(`${parcel.name} was not sent: ${(error as Error).message}. Drop it again.`);
    } finally {
      busy -= 1;
      document.title = TITLE;
    }
  }

  private async bodyOf(parcel: Parcel, row: Row): Promise<Blob> {
    const [only] = parcel.files;
    if (parcel.files.length === 1 && only && only.file.name === parcel.name) return only.file;
    row.say(`Packing ${whole(parcel.files.length)} files`);
    return zipOf(parcel.files, (done) => row.say(`Packing ${whole(parcel.files.length)} files`, done, parcel.size));
  }

  /** Resolves with the upload's address when all of it has arrived, or with null when it was discarded. */
  private upload(parcel: Parcel, body: Blob, row: Row): Promise<string | null> {
    const rate = new Rate();
    const fingerprint = `cristae-${this.root.dataset["dataset"]}-${markOf(parcel)}`;
    return new Promise((resolve) => {
      const upload = new tus.Upload(body, {
        endpoint: this.root.dataset["endpoint"]!,
        chunkSize: PIECE,
        retryDelays: RETRIES,
        metadata: { filename: parcel.name },
        headers: { "X-CSRFToken": this.token },
        fingerprint: () => Promise.resolve(fingerprint),
        removeFingerprintOnSuccess: true,
        onProgress: (sent, total) => {
          rate.add(sent);
          row.calm();
          row.say(this.sending(sent, total, rate.value), sent, total);
          document.title = `${Math.floor((100 * sent) / total)} % · ${TITLE}`;
        },
        onShouldRetry: (error) => {
          const status = error.originalResponse?.getStatus() ?? 0;
          rate.clear();
          row.trouble("The link is cut; what has arrived is kept. Trying again.");
          return status === 0 || status === 409 || status === 423 || status >= 500;
        },
        onError: (error) => {
          row.trouble(refusalIn(error) || "The link is cut; what has arrived is kept. Go on when you are back online.");
          this.setPaused(row, true);
        },
        onSuccess: () => resolve(upload.url),
      });
      row.pause.hidden = row.discard.hidden = false;
      row.pause.addEventListener("click", () => {
        const paused = row.pause.getAttribute("aria-pressed") === "true";
        this.setPaused(row, !paused);
        rate.clear();
        if (paused) {
          row.calm();
          upload.start();
        } else {
          void upload.abort();
          row.say("Paused; what has arrived is kept.");
        }
      });
      row.discard.addEventListener("click", () => {
        void upload.abort(true).catch(() => undefined);
        row.element.remove();
        resolve(null);
      });
      // Back online: no need to wait for the next try.
      window.addEventListener("online", () => {
        if (!row.element.isConnected || !row.element.classList.contains("trouble")) return;
        this.setPaused(row, false);
        void upload.abort().then(() => upload.start());
      });
      void upload.findPreviousUploads().then(([previous]) => {
        if (previous) {
          upload.resumeFromPreviousUpload(previous);
          const id = previous.uploadUrl?.split("/").filter(Boolean).at(-1);
          document.getElementById(`upload-${id}`)?.remove();
        }
        upload.start();
      });
    });
  }

  private setPaused(row: Row, paused: boolean): void {
    row.pause.setAttribute("aria-pressed", String(paused));
    row.pause.textContent = paused ? "Go on" : "Pause";
  }

  private sending(sent: number, total: number, rate: number | null): string {
    const parts = [of(sent, total)];
    if (rate && sent < total) parts.push(`${bytes(rate)}/s`, `${duration((total - sent) / rate)} left`);
    return parts.join(" · ");
  }

  private async follow(url: string, row: Row): Promise<void> {
    row.pause.hidden = row.discard.hidden = true;
    row.say("Arrived. Waiting to be read");
    busy -= 1; // From here on the server has all of it: the tab may close.
    try {
      const { job } = await stateOf(url);
      if (job !== null) await new Promise<void>((ended) => followReading(job, (now) => sayReading(row, now), ended));
    } finally {
      busy += 1;
    }
    row.element.remove();
    this.changed();
  }
}

function sayReading(row: Row, job: JobSnapshot): void {
  const { progress } = job;
  if ("total" in progress) row.say(readingWords(job), progress.done, progress.total);
  else row.say(readingWords(job));
}

async function stateOf(url: string): Promise<{ job: number | null }> {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return (await answer.json()) as { job: number | null };
}

/** The server's sentence, where it refused the upload for good. */
function refusalIn(error: Error | tus.DetailedError): string {
  const response = "originalResponse" in error ? error.originalResponse : null;
  const text = response?.getBody().trim() ?? "";
  return response && response.getStatus() < 500 && text && !text.startsWith("<") ? text : "";
}
