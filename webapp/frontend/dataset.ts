// A dataset's page: uploads, the grid, and its refresh without a jump.
import "./styles/dataset.css";
import { bindKeys } from "./shared/keys";
import { bindSelection, keepChosen, toggleFocused } from "./dataset/selection";
import { showLocalTimes } from "./shared/times";
import { followReading, readingWords } from "./upload/intake_progress";
import { Uploader } from "./upload/uploader";

const REFRESHED = ["heading", "main-actions", "zone-words", "contents", "reports"];

/** Loads the parts of the page again. Thumbnails that stay are kept as they are, so nothing flickers or moves. */
async function refresh(): Promise<void> {
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) {
    location.reload();
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const restoreChosen = keepChosen();
  for (const id of REFRESHED) {
    const [old, now] = [document.getElementById(id), fresh.getElementById(id)];
    if (!old || !now) continue;
    for (const item of now.querySelectorAll<HTMLElement>("li[data-item]")) {
      const same = old.querySelector<HTMLElement>(`li[data-item="${item.dataset["item"]}"] img`);
      if (same) item.querySelector("img")?.replaceWith(same);
    }
    old.replaceWith(document.adoptNode(now));
  }
  restoreChosen();
  document.querySelector("#uploads")?.classList.toggle("alone", !document.querySelector("#grid"));
  showLocalTimes();
}

/** Uploads that the server was already reading when this page was opened. */
function followOpenReadings(): void {
  for (const row of document.querySelectorAll<HTMLElement>("[data-reading-job]")) {
    const words = row.querySelector<HTMLElement>('[data-part="words"]')!;
    const bar = row.querySelector<HTMLProgressElement>("progress")!;
    followReading(
      Number(row.dataset["readingJob"]),
      (job) => {
        words.textContent = readingWords(job);
        bar.hidden = !("total" in job.progress && job.progress.total);
        if ("total" in job.progress && job.progress.total) {
          bar.max = job.progress.total;
          bar.value = job.progress.done;
        }
      },
      () => {
        row.remove();
        void refresh();
      },
    );
  }
}

function cells(): HTMLAnchorElement[] {
  return [...document.querySelectorAll<HTMLAnchorElement>("#grid a")];
}

/** Arrows move through the grid once it has the focus; columns are counted, for they depend on the window. */
function bindArrows(): void {
  document.addEventListener("keydown", (event) => {
    const all = cells();
    const at = all.indexOf(document.activeElement as HTMLAnchorElement);
    if (at < 0) return;
    const across = all.filter((cell) => cell.offsetTop === all[0]!.offsetTop).length;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
    if (!by || !all[at + by]) return;
    event.preventDefault();
    all[at + by]!.focus();
  });
}

function openFilePicker(): void {
  document.querySelector<HTMLInputElement>("#pick-files")?.click();
}

function bindFilters(): void {
  // Each choice is an address: it can be sent to a colleague and gone back from.
  document.addEventListener("change", (event) => {
    const select = event.target as HTMLElement;
    if (select.matches("#filters select")) select.closest("form")!.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    if ((event.target as HTMLElement).closest("[data-pick]")) openFilePicker();
  });
}

const uploads = document.querySelector<HTMLElement>("#uploads");
if (uploads?.dataset["endpoint"]) new Uploader(uploads, () => void refresh());
followOpenReadings();
bindFilters();
bindArrows();
bindSelection();
bindKeys({
  x: toggleFocused,
  o: () => (document.activeElement?.matches("#grid a") ? (document.activeElement as HTMLElement).click() : undefined),
  u: openFilePicker,
  "[": () => document.querySelector<HTMLAnchorElement>("a[rel=prev]")?.click(),
  "]": () => document.querySelector<HTMLAnchorElement>("a[rel=next]")?.click(),
});
