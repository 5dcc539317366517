// One upload on its way: packed where it is many files, sent in pieces, resumed after a cut or a reload, followed until
// it is read. When it may send is the uploader's to say.
import * as tus from "tus-js-client";
import { type JobSnapshot } from "../live";
import { whole } from "../numbers";
import { markOf, type Parcel } from "./dropped";
import { Rate, sendingWords } from "./rate";
import { followReading, readingWords } from "./reading";
import { type Row } from "./row";
import { zipOf } from "./zip";

const PIECE = 8 * 2 ** 20;
// A cut is tried again for about two minutes; then the row says so and offers to go on.
const RETRIES = [0, 1000, 2000, 4000, 8000, 15000, 30000, 60000];
const CUT = "The link is cut; what has arrived is kept.";

/** `held`: paused, cut off for long or refused; it goes on when somebody says so. `gone`: given up. */
export type Stage = "waiting" | "sending" | "held" | "arrived" | "gone";

export interface Surroundings {
  endpoint: string;
  token: string;
  dataset: string;
  /** Something has changed that others may wait for, or that the line of all uploads says. */
  changed: (moved: number) => void;
  /** The server has read it. */
  read: () => void;
}

export class Transfer {
  stage: Stage = "waiting";
  sent = 0;
  readonly mark: string;
  private body: Blob | null = null;
  private packing: Promise<void> | null = null;
  /** Counts its turns: what an earlier one still waits for is no longer wanted. */
  private turn = 0;
  private upload: tus.Upload | null = null;
  private readonly rate = new Rate();
  private known: number | null = null;
  /** Held by the link alone: being back online is reason enough to go on. */
  private waitsForLink = false;

  constructor(
    private readonly parcel: Parcel,
    private readonly row: Row,
    private readonly around: Surroundings,
  ) {
    this.mark = markOf(parcel);
    row.say("Waiting for the others");
    row.pause.hidden = row.discard.hidden = false;
    row.pause.addEventListener("click", () => (this.stage === "held" ? this.goOn() : this.pause()));
    row.discard.addEventListener("click", () => this.giveUp());
  }

  /** Bytes, of the zip once there is one. */
  get total(): number {
    return this.body?.size ?? this.parcel.size;
  }

  /** Takes its turn. */
  start(): void {
    this.stage = "sending";
    const turn = (this.turn += 1);
    const mine = (): boolean => turn === this.turn && this.stage === "sending";
    this.packing ??= this.packed();
    void this.packing
      .then(() => (mine() ? this.send(mine) : undefined))
      .catch((error: unknown) => {
        this.packing = null;
        if (!mine()) return;
        // Gone from where it was picked, or without permission: the browser's own words say it best.
        this.hold(`${this.parcel.name} could not be read. ${(error as Error).message}`, "Try again");
      });
  }

  pause(): void {
    if (this.stage !== "sending" && this.stage !== "waiting") return;
    void this.upload?.abort();
    this.stage = "held";
    this.row.say("Paused; what has arrived is kept.");
    this.row.setPaused("Go on");
    this.around.changed(0);
  }

  /** Back in the queue. */
  goOn(): void {
    if (this.stage !== "held") return;
    this.stage = "waiting";
    this.waitsForLink = false;
    this.row.say("Waiting for the others");
    this.row.setPaused(null);
    this.around.changed(0);
  }

  /** No need to wait for the next try. */
  backOnline(): void {
    if (this.waitsForLink && this.stage === "held") this.goOn();
    else if (this.waitsForLink && this.stage === "sending") void this.upload?.abort().then(() => this.upload?.start());
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

  private hold(words: string, goOn: string): void {
    this.stage = "held";
    this.row.trouble(words);
    this.row.setPaused(goOn);
    this.around.changed(0);
  }

  private async packed(): Promise<void> {
    if (this.body) return;
    const [only] = this.parcel.files;
    if (this.parcel.files.length === 1 && only && only.file.name === this.parcel.name) {
      this.body = only.file;
      return;
    }
    const words = `Packing ${whole(this.parcel.files.length)} files`;
    this.row.say(words);
    this.body = await zipOf(this.parcel.files, (done) => {
      if (this.stage === "gone") throw new Error("It was given up.");
      if (this.stage === "sending") this.row.say(words, done, this.parcel.size);
    });
  }

  private async send(mine: () => boolean): Promise<void> {
    this.rate.clear();
    this.known = null;
    if (!this.upload) {
      this.upload = this.made();
      const [previous] = await this.upload.findPreviousUploads();
      if (previous) {
        this.upload.resumeFromPreviousUpload(previous);
        const id = previous.uploadUrl?.split("/").filter(Boolean).at(-1);
        document.getElementById(`upload-${id}`)?.remove();
      }
    }
    if (mine()) this.upload.start();
  }

  private made(): tus.Upload {
    const fingerprint = `cristae-${this.around.dataset}-${this.mark}`;
    return new tus.Upload(this.body!, {
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
        if (this.stage !== "sending") return;
        const refusal = refusalIn(error);
        if (refusal) this.hold(refusal, "Try again");
        else this.hold(`${CUT} Go on when you are back online.`, "Go on");
      },
      onSuccess: () => void this.follow(),
    });
  }

  private progress(sent: number): void {
    if (this.stage !== "sending") return;
    this.waitsForLink = false;
    // What an earlier connection brought is not this one's speed.
    const moved = Math.max(0, sent - (this.known ?? sent));
    this.known = this.sent = sent;
    this.rate.add(sent);
    this.row.say(sendingWords(sent, this.total, this.rate.value), sent, this.total);
    this.around.changed(moved);
  }

  private shouldRetry(error: tus.DetailedError): boolean {
    const status = error.originalResponse?.getStatus() ?? 0;
    if (status !== 0 && status !== 409 && status !== 423 && status < 500) return false;
    this.rate.clear();
    this.known = null;
    this.waitsForLink = status === 0;
    if (status === 0) void this.checkFile();
    const sentence = refusalIn(error);
    if (sentence) this.row.trouble(sentence);
    else if (status >= 500) this.row.trouble("The server has trouble; what has arrived is kept. Trying again.");
    else this.row.trouble(`${CUT} Trying again.`);
    return true;
  }

  /** A file that was changed or removed since it was picked looks like a cut link, and no trying again helps. */
  private async checkFile(): Promise<void> {
    const piece = this.body!.slice(this.sent, this.sent + PIECE);
    await piece.arrayBuffer().catch(() => {
      if (this.stage !== "sending") return;
      void this.upload!.abort();
      this.hold(`${this.parcel.name} has changed on your disk since you chose it. Discard this, and add it again.`, "Try again");
    });
  }

  /** From here on the server has all of it: the tab may close. */
  private async follow(): Promise<void> {
    this.stage = "arrived";
    this.sent = this.total;
    this.row.pause.hidden = this.row.discard.hidden = true;
    this.row.say("Arrived. Waiting to be read");
    this.around.changed(0);
    try {
      const { job } = await stateOf(this.upload!.url!);
      if (job !== null) await new Promise<void>((ended) => followReading(job, (now) => this.sayReading(now), ended));
    } catch (error) {
      this.row.trouble(`Arrived. How it is read cannot be shown: ${(error as Error).message}. Reload the page.`);
      return;
    }
    this.row.element.remove();
    this.around.read();
  }

  private sayReading(job: JobSnapshot): void {
    const { progress } = job;
    if ("total" in progress) this.row.say(readingWords(job), progress.done, progress.total);
    else this.row.say(readingWords(job));
  }
}

async function stateOf(url: string): Promise<{ job: number | null }> {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return (await answer.json()) as { job: number | null };
}

/** The server's own sentence, where it has one: of a refusal, and of a full disk, which may have room again. */
function refusalIn(error: Error | tus.DetailedError): string {
  const response = "originalResponse" in error ? error.originalResponse : null;
  const text = response?.getBody()?.trim() ?? "";
  const status = response?.getStatus() ?? 0;
  return status && (status < 500 || status === 507) && text && !text.startsWith("<") ? text : "";
}
