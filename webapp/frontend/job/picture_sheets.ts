// Sheets of pictures as the job makes them: one place per kind and name, the newest shown, earlier ones a step away.
import type { JobEvent } from "./live";
import { integerText, numberText } from "../shared/numbers";
import { sheetOf } from "./sheet_panels";

const TITLES: Record<string, string> = {
  sample: "Image, mask, prediction, errors",
  pairs: "The pairs that the network sees",
  colour_pairs: "Grey beside colour",
  cam_sheet: "Activation maps",
};
/** Of these, every sheet of a run shows the same images. */
const SAME = new Set(["sample"]);
const ORDER = ["sample", "cam_sheet", "pairs", "colour_pairs"];

interface Picture {
  url: string;
  step: number | null;
  facts: Record<string, unknown>;
}

/** Why a map is not reliable, by the checks that came with it; empty where they passed. */
function warningOf(facts: Record<string, unknown>): string {
  const { confidence_drop: drop, random_correlation: alike, random_correlation_limit: limit } = facts;
  if (typeof alike === "number" && alike >= Number(limit)) return "Random weights give nearly the same map: it says little about the training.";
  if (typeof drop === "number" && drop <= 0) return "Hiding the brightest part does not lower the confidence: the network does not rely on it.";
  return "";
}

/** Pictures of one kind and name over the steps of the run. */
class Sheet {
  readonly element = document.createElement("figure");
  private readonly pictures: Picture[] = [];
  private shown = -1;
  private readonly panels = Object.assign(document.createElement("div"), { className: "panels", tabIndex: 0 });
  private readonly link = Object.assign(document.createElement("a"), { textContent: "Open the picture", className: "caption" });
  private readonly words = document.createElement("span");
  private readonly doubt = Object.assign(document.createElement("p"), { className: "doubt" });
  private readonly earlier = this.button("Earlier", -1);
  private readonly later = this.button("Later", 1);

  constructor(readonly kind: string, readonly name: string) {
    this.element.className = "card sheet";
    const caption = document.createElement("figcaption");
    const walk = Object.assign(document.createElement("span"), { className: "row" });
    walk.append(this.link, this.earlier, this.later);
    caption.append(this.words, walk);
    this.link.target = "_blank";
    this.panels.setAttribute("role", "group");
    this.panels.setAttribute("aria-label", TITLES[kind] ?? kind);
    this.element.append(caption, this.doubt, this.panels);
  }

  add(picture: Picture): void {
    const newest = this.shown === this.pictures.length - 1;
    this.pictures.push(picture);
    // A reader who looks at an earlier one keeps it.
    if (newest) this.show(this.pictures.length - 1);
    else this.showWords();
  }

  private show(index: number): void {
    const picture = this.pictures[index];
    if (!picture) return;
    this.shown = index;
    this.link.href = picture.url;
    this.showWords();
    this.panels.replaceChildren(...sheetOf(picture.url, picture.facts, `${TITLES[this.kind] ?? this.kind}: ${this.words.textContent}`));
  }

  private showWords(): void {
    const { step, facts } = this.pictures[this.shown]!;
    const parts = [step === null ? "" : `step ${integerText(step)}`];
    const iou = facts["foreground_iou"];
    if (typeof iou === "number") parts.push(`foreground IoU ${numberText(iou, true)}`);
    // Where the panels are known, all this stands beside each row.
    const withoutPanels = !facts["panels"];
    if (withoutPanels && this.kind === "cam_sheet") parts.unshift(this.name);
    if (withoutPanels && facts["method"]) {
      parts.push([facts["method"], facts["layer"], facts["target"]].filter(Boolean).join(", "));
    }
    if (withoutPanels && typeof facts["confidence_drop"] === "number") {
      parts.push(`confidence falls ${numberText(facts["confidence_drop"], true)} with the brightest 20 % hidden`);
    }
    if (withoutPanels && typeof facts["random_correlation"] === "number") {
      parts.push(`correlation with random weights ${numberText(facts["random_correlation"], true)}`);
    }
    this.words.textContent = parts.filter(Boolean).join(" · ");
    const doubt = warningOf(facts);
    this.doubt.hidden = !doubt;
    this.doubt.textContent = doubt ? `⚠ ${doubt}` : "";
    const many = this.pictures.length > 1;
    const same = SAME.has(this.kind) ? ", the same images each time" : "";
    const place = `${integerText(this.shown + 1)} of ${integerText(this.pictures.length)}`;
    if (many) this.words.textContent += ` · ${place}${same}`;
    this.earlier.hidden = this.later.hidden = !many;
    this.earlier.disabled = this.shown === 0;
    this.later.disabled = this.shown === this.pictures.length - 1;
  }

  private button(words: string, by: number): HTMLButtonElement {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: words });
    button.addEventListener("click", () => this.show(this.shown + by));
    return button;
  }
}

export class Pictures {
  private readonly sheets = new Map<string, Sheet>();
  private readonly groups = new Map<string, HTMLElement>();

  constructor(private readonly section: HTMLElement, private readonly holder: HTMLElement) {}

  /** Takes in an event; returns whether it was a picture to show. */
  add(event: JobEvent): boolean {
    const data = event.data ?? {};
    const kind = String(data["artifact"] ?? "");
    if (event.kind !== "artifact" || !(kind in TITLES) || typeof data["url"] !== "string") return false;
    const name = String(data["name"] ?? event.name);
    // Sheets of a training have their step in the name or beside it; maps have one name per image.
    const key = kind === "cam_sheet" ? `${kind}/${name}` : kind;
    let sheet = this.sheets.get(key);
    if (!sheet) {
      sheet = new Sheet(kind, name);
      this.sheets.set(key, sheet);
      this.group(kind).append(sheet.element);
    }
    const step = typeof data["step"] === "number" ? data["step"] : event.step;
    sheet.add({ url: data["url"], step, facts: (data["facts"] ?? {}) as Record<string, unknown> });
    this.section.hidden = false;
    return true;
  }

  private group(kind: string): HTMLElement {
    let group = this.groups.get(kind);
    if (group) return group;
    group = Object.assign(document.createElement("div"), { className: "stack tight" });
    group.append(Object.assign(document.createElement("h3"), { textContent: TITLES[kind] ?? kind }));
    this.groups.set(kind, group);
    const sorted = [...this.groups].sort(([a], [b]) => ORDER.indexOf(a) - ORDER.indexOf(b));
    this.holder.replaceChildren(...sorted.map(([, element]) => element));
    return group;
  }
}
