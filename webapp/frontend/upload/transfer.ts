// One upload on its way: many files as one zip, sent in pieces, resumed after a lost connection or a reload, and
// followed until it is read. The uploader decides when it may send.
import * as tus from "tus-js-client";
import { type JobSnapshot } from "../job/live";
import { markOf, type Parcel } from "./dropped";
import { bytes, Rate, sendingWords } from "./rate";
import { followReading, readingWords } from "./intake_progress";
import { type Row } from "./list_row";
import { Changed, ZipSource } from "./zip";

const PIECE = 8 * 2 ** 20;
// A lost connection is tried again for about two minutes; then the row says so and offers to go on.
const RETRIES = [0, 1000, 2000, 4000, 8000, 15000, 30000, 60000];
const LOST = "Connection lost; what has arrived is kept.";

/** `held`: paused, cut off for long or refused; it goes on when the reader resumes it. `gone`: given up. */
export type Stage = "waiting" | "sending" | "held" | "arrived" | "gone";

export interface Surroundings {
  endpoint: string;
  token: string;
  dataset: string;
  /** Something has changed that other uploads may wait for, or that the line of all uploads shows. */
  changed: (moved: number) => void;
  /** The server has read it. */
  read: () => void;
}

export class Transfer {
  stage: Stage = "waiting";
  sent = 0;
  readonly mark: string;
  /** The file itself, or the zip that many files make. */
  private body: File | ZipSource | null = null;
  /** Counts its turns: results of an earlier one are dropped. */
  private turn = 0;
  private upload: tus.Upload | null = null;
  private readonly rate = new Rate();
  private known: number | null = null;
  /** Held only because the connection was lost: resumes once it is back. */
  private waitsForConnection = false;

  constructor(
    private readonly parcel: Parcel,
    private readonly row: Row,
    private readonly around: Surroundings,
  ) {
    this.mark = markOf(parcel);
    row.show("Waiting for other uploads");
    row.pause.hidden = row.discard.hidden = false;
    row.pause.addEventListener("click", () => (this.stage === "held" ? this.resume() : this.pause()));
    row.discard.addEventListener("click", () => this.giveUp());
  }

  /** Bytes; of a zip, once it is laid out. */
  get total(): number {
    return this.body?.size ?? this.parcel.size;
  }

  /** Takes its turn. */
  start(): void {
    this.stage = "sending";
    const turn = (this.turn += 1);
    const isCurrent = (): boolean => turn === this.turn && this.stage === "sending";
    void this.send(isCurrent).catch((error: unknown) => {
      // Gone from where it was picked, or without permission: the browser's own message describes it best.
      if (isCurrent()) this.hold(`${this.parcel.name} could not be read. ${(error as Error).message}`, "Try again");
    });
  }

  pause(): void {
    if (this.stage !== "sending" && this.stage !== "waiting") return;
    void this.upload?.abort();
    this.stage = "held";
    this.row.show("Paused; what has arrived is kept.");
    this.row.setPaused("Resume");
    this.around.changed(0);
  }

  /** Back in the queue. */
  resume(): void {
    if (this.stage !== "held") return;
    this.stage = "waiting";
    this.waitsForConnection = false;
    this.row.show("Waiting for other uploads");
    this.row.setPaused(null);
    this.around.changed(0);
  }

  /** No need to wait for the next try. */
  backOnline(): void {
    if (this.waitsForConnection && this.stage === "held") this.resume();
    else if (this.waitsForConnection && this.stage === "sending") {
      void this.upload?.abort();
      this.start();
    }
  }

  private giveUp(): void {
    void this.upload?.abort(true).catch(() => undefined);
    this.forget();
    this.around.changed(0);
  }

  /** As if it had never been added. */
  forget(): void {
    this.stage = "gone";
    this.row.element.remove();
  }

  private hold(words: string, resume: string): void {
    this.stage = "held";
    this.row.showProblem(words);
    this.row.setPaused(resume);
    this.around.changed(0);
  }

  private async open(): Promise<File | ZipSource> {
    if (!this.parcel.packed) return this.parcel.files[0]!.open();
    const progress = (done: number): void => this.row.show(`Checking again what was sent before: ${bytes(done)}`);
    return new ZipSource(this.parcel.files, progress);
  }

  private async send(isCurrent: () => boolean): Promise<void> {
    this.rate.clear();
    this.known = null;
    this.body ??= await this.open();
    // A new one each time: what the one before still waits for cannot come in between.
    const before = this.upload;
    const upload = this.newUpload(this.body);
    const [previous] = await upload.findPreviousUploads();
    if (!isCurrent()) return;
    if (previous) {
      upload.resumeFromPreviousUpload(previous);
      const id = previous.uploadUrl?.split("/").filter(Boolean).at(-1);
      document.getElementById(`upload-${id}`)?.remove();
    } else upload.url = before?.url ?? null;
    this.upload = upload;
    upload.start();
  }

  private newUpload(body: File | ZipSource): tus.Upload {
    // The number is that of the zip's layout: what another one has begun cannot go on by this.
    const fingerprint = `cristae-2-${this.around.dataset}-${this.mark}`;
    const upload: tus.Upload = new tus.Upload(body instanceof ZipSource ? new Blob() : body, {
      ...(body instanceof ZipSource ? { fileReader: { openFile: () => Promise.resolve(body) } } : {}),
      endpoint: this.around.endpoint,
      chunkSize: PIECE,
      retryDelays: RETRIES,
      metadata: { filename: this.parcel.name },
      headers: { "X-CSRFToken": this.around.token },
      fingerprint: () => Promise.resolve(fingerprint),
      removeFingerprintOnSuccess: true,
      onProgress: (sent) => this.progress(sent),
      onShouldRetry: (error) => this.shouldRetry(error),
      onError: (error) => {
        if (this.stage !== "sending" || this.upload !== upload) return;
        const refusal = refusalIn(error);
        const changed = changedIn(error);
        if (changed) this.hold(`${changed} Discard this, and add it again.`, "Try again");
        else if (refusal) this.hold(refusal, "Try again");
        else this.hold(`${LOST} Resume when you are back online.`, "Resume");
      },
      onSuccess: () => void this.follow(),
    });
    return upload;
  }

  private progress(sent: number): void {
    if (this.stage !== "sending") return;
    this.waitsForConnection = false;
    // What an earlier connection brought is not this one's speed.
    const moved = Math.max(0, sent - (this.known ?? sent));
    this.known = this.sent = sent;
    this.rate.add(sent);
    this.row.show(sendingWords(sent, this.total, this.rate.value), sent, this.total);
    this.around.changed(moved);
  }

  private shouldRetry(error: tus.DetailedError): boolean {
    const status = error.originalResponse?.getStatus() ?? 0;
    if (changedIn(error)) return false;
    if (status !== 0 && status !== 409 && status !== 423 && status < 500) return false;
    this.rate.clear();
    this.known = null;
    this.waitsForConnection = status === 0;
    if (status === 0) void this.checkFile();
    const sentence = refusalIn(error);
    if (sentence) this.row.showProblem(sentence);
    else if (status >= 500) this.row.showProblem("The server has an error; what has arrived is kept. Trying again.");
    else this.row.showProblem(`${LOST} Trying again.`);
    return true;
  }

  /** A file that was changed or removed since it was picked looks like a lost connection, but no retry helps. */
  private async checkFile(): Promise<void> {
    if (!(this.body instanceof File)) return;
    await this.body
      .slice(this.sent, this.sent + 1)
      .arrayBuffer()
      .catch(() => {
        if (this.stage !== "sending") return;
        void this.upload!.abort();
        this.hold(`${new Changed(this.parcel.name).message} Discard this, and add it again.`, "Try again");
      });
  }

  /** From here on the server has all of it: the tab may close. */
  private async follow(): Promise<void> {
    this.stage = "arrived";
    this.sent = this.total;
    this.row.pause.hidden = this.row.discard.hidden = true;
    this.row.show("Arrived. Waiting to be read");
    this.around.changed(0);
    try {
      const { job } = await stateOf(this.upload!.url!);
      if (job !== null) await new Promise<void>((ended) => followReading(job, (now) => this.showReading(now), ended));
    } catch (error) {
      const reason = (error as Error).message;
      this.row.showProblem(`Arrived. The progress of reading it cannot be shown: ${reason}. Reload the page.`);
      return;
    }
    this.row.element.remove();
    this.around.read();
  }

  private showReading(job: JobSnapshot): void {
    const { progress } = job;
    if ("total" in progress) this.row.show(readingWords(job), progress.done, progress.total);
    else this.row.show(readingWords(job));
  }
}

async function stateOf(url: string): Promise<{ job: number | null }> {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return (await answer.json()) as { job: number | null };
}

/** The message for a file that has changed since it was picked; empty for other errors. */
function changedIn(error: Error | tus.DetailedError): string {
  const cause = "causingError" in error ? error.causingError : error;
  return cause instanceof Changed ? cause.message : "";
}

/** The server's own sentence, where it has one: of a refusal, and of a full disk, which may have room again. */
function refusalIn(error: Error | tus.DetailedError): string {
  const response = "originalResponse" in error ? error.originalResponse : null;
  const text = response?.getBody()?.trim() ?? "";
  const status = response?.getStatus() ?? 0;
  return status && (status < 500 || status === 507) && text && !text.startsWith("<") ? text : "";
}
