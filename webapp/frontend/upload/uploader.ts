// Uploads: dropped or picked files wait for their turn, a few are sent at once, one line shows the progress of all.
import { integerText } from "../shared/numbers";
import { filesDropped, filesPicked, parcels, type Parcel } from "./dropped";
import { Rate, sendingWords } from "./rate";
import { Row } from "./list_row";
import { Transfer, type Surroundings } from "./transfer";

/** This many at once: a browser opens six connections to a server, and the page needs some for itself. */
const AT_ONCE = 3;
const TITLE = document.title;

export class Uploader {
  private transfers: Transfer[] = [];
  private readonly rate = new Rate();
  private moved = 0;
  private readonly list: HTMLElement;
  private readonly template: HTMLTemplateElement;
  private readonly all: Row;
  private readonly around: Surroundings;

  /** `root` holds the list, the row's template and the address; `changed` is called when the dataset may have. */
  constructor(
    private readonly root: HTMLElement,
    private readonly changed: () => void,
  ) {
    this.list = root.querySelector<HTMLElement>("#upload-list")!;
    this.template = root.querySelector<HTMLTemplateElement>("#upload-row")!;
    this.all = new Row(root.querySelector<HTMLElement>("#upload-all")!);
    this.around = {
      endpoint: root.dataset["endpoint"]!,
      dataset: root.dataset["dataset"]!,
      token: document.querySelector<HTMLInputElement>('input[name="csrfmiddlewaretoken"]')?.value ?? "",
      changed: (moved) => this.startWaiting(moved),
      read: changed,
    };
    this.bind();
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
    this.all.pause.addEventListener("click", () => {
      const paused = this.all.pause.getAttribute("aria-pressed") === "true";
      for (const transfer of [...this.transfers]) paused ? transfer.resume() : transfer.pause();
    });
    window.addEventListener("online", () => this.transfers.forEach((transfer) => transfer.backOnline()));
    // Closing the tab would lose what is not sent yet: the browser asks first.
    window.addEventListener("beforeunload", (event) => {
      if (this.transfers.some(({ stage }) => stage !== "arrived" && stage !== "gone")) event.preventDefault();
    });
    this.bindDrop();
  }

  private bindDrop(): void {
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
      void this.drop(event.dataTransfer);
    });
  }

  /** A folder of many thousand files takes seconds to look through; the page says so meanwhile. */
  private async drop(data: DataTransfer): Promise<void> {
    const row = Row.added(this.list, this.template, "Dropped");
    try {
      const files = await filesDropped(data, (found) => row.show(`Listing its files: ${integerText(found)} so far`));
      row.element.remove();
      this.add(parcels(files));
    } catch (error) {
      row.showProblem(`Its files could not be listed: ${(error as Error).message}. Drop it again.`);
    }
  }

  /** Gives up an upload that was begun elsewhere or before a reload. */
  private async discard(button: HTMLElement): Promise<void> {
    const headers = { "X-CSRFToken": this.around.token, "Tus-Resumable": "1.0.0" };
    const answer = await fetch(button.dataset["discard"]!, { method: "DELETE", headers, credentials: "same-origin" });
    if (answer.ok || answer.status === 404 || answer.status === 410) button.closest(".upload")!.remove();
    else this.changed();
  }

  private add(parcels: Parcel[]): void {
    if (this.transfers.every(({ stage }) => stage === "arrived" || stage === "gone")) this.transfers = [];
    for (const parcel of parcels) {
      const transfer = new Transfer(parcel, Row.added(this.list, this.template, parcel.name), this.around);
      // The same files twice would be sent to one upload at the same time.
      if (this.transfers.some(({ mark, stage }) => mark === transfer.mark && stage !== "arrived" && stage !== "gone")) {
        transfer.forget();
      } else this.transfers.push(transfer);
    }
    this.startWaiting(0);
  }

  /** Gives free places to those that wait, and shows the progress of all. */
  private startWaiting(moved: number): void {
    this.moved += moved;
    for (const transfer of this.transfers) {
      if (this.transfers.filter(({ stage }) => stage === "sending").length >= AT_ONCE) break;
      if (transfer.stage === "waiting") transfer.start();
    }
    this.showTotal();
  }

  private showTotal(): void {
    const all = this.transfers.filter(({ stage }) => stage !== "gone");
    const on = all.filter(({ stage }) => stage === "sending" || stage === "waiting").length;
    const held = all.filter(({ stage }) => stage === "held").length;
    const sum = (of: (transfer: Transfer) => number): number => all.reduce((total, one) => total + of(one), 0);
    const [sent, total] = [sum((one) => one.sent), sum((one) => one.total)];
    document.title = on && total ? `${Math.floor((100 * sent) / total)} % · ${TITLE}` : TITLE;
    this.all.element.hidden = all.length < 2 || !(on || held);
    if (!on) this.rate.clear();
    if (this.all.element.hidden) return;
    this.rate.add(this.moved);
    const counted = `${integerText(all.length - on - held)} of ${integerText(all.length)} arrived`;
    const stopped = held ? [`${integerText(held)} stopped`] : [];
    const words = [counted, ...stopped, sendingWords(sent, total, this.rate.value)];
    this.all.show(words.join(" · "), sent, total);
    this.all.setPaused(on ? null : "Resume all", "Pause all");
  }
}
