// Precision against recall at every threshold, drawn from the table that the job kept; a slider reads one threshold off.
import { exportButtons, type Figure } from "./chart_export";
import { diamondPath } from "./marks";

interface Row {
  threshold: number;
  precision: number;
  recall: number;
  iou: number;
}

const WIDTH = 360;
const HEIGHT = 272;
const BOX = { left: 44, top: 8, right: 12, bottom: 40 };
const TICKS = [0, 0.25, 0.5, 0.75, 1];
const SVG = "http://www.w3.org/2000/svg";

const px = (recall: number): number => BOX.left + recall * (WIDTH - BOX.left - BOX.right);
const py = (precision: number): number => BOX.top + (1 - precision) * (HEIGHT - BOX.top - BOX.bottom);

/** Rows of a table `threshold,precision,recall,foreground_iou`, by falling threshold: recall grows along them. */
function read(table: string): Row[] {
  const lines = table.trim().split(/\r?\n/).slice(1);
  return lines
    .map((line) => {
      const [threshold, precision, recall, iou] = line.split(",").map(Number) as [number, number, number, number];
      return { threshold, precision, recall, iou };
    })
    .reverse();
}

/** The sum of precision times the gain of recall; null where some foreground lies below the lowest threshold. */
function averagePrecision(rows: Row[]): number | null {
  if ((rows.at(-1)?.recall ?? 0) < 0.9995) return null;
  let before = 0;
  let sum = 0;
  for (const { precision, recall } of rows) {
    sum += precision * (recall - before);
    before = recall;
  }
  return sum;
}

function shape(name: string, attributes: Record<string, string | number>, words = ""): SVGElement {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = words;
  return made;
}

class Thresholds {
  private readonly used: Row;
  private readonly ring = shape("circle", { r: 5, class: "ring" });
  private readonly slider: HTMLInputElement;
  private readonly output: HTMLOutputElement;

  constructor(
    private readonly element: HTMLElement,
    private readonly rows: Row[],
    private readonly caption: string,
  ) {
    this.used = this.at(Number(element.dataset["threshold"]));
    this.slider = element.querySelector("input")!;
    this.output = element.querySelector("output")!;
    element.querySelector(".plot")!.replaceChildren(this.draw());
    element.querySelector(".said")!.textContent = this.words();
    element.querySelector(".exports")!.prepend(...exportButtons("precision and recall", () => this.figure()));
    Object.assign(this.slider, { min: "0", max: "1", step: "any", value: String(this.used.threshold) });
    this.slider.addEventListener("input", () => this.showValues());
    element.querySelector<HTMLElement>(".slider")!.hidden = false;
    this.showValues();
  }

  private at(threshold: number): Row {
    const near = (row: Row): number => Math.abs(row.threshold - threshold);
    return this.rows.reduce((best, row) => (near(row) < near(best) ? row : best));
  }

  private showValues(): void {
    const row = this.at(Number(this.slider.value));
    const own = row === this.used ? " ◆ the threshold of this job" : "";
    const [precision, recall, iou] = [row.precision, row.recall, row.iou].map((value) => value.toFixed(3));
    this.output.textContent = `${row.threshold.toFixed(3)} · precision ${precision} · recall ${recall} · foreground IoU ${iou}${own}`;
    this.slider.setAttribute("aria-valuetext", this.output.textContent);
    this.ring.setAttribute("cx", String(px(row.recall)));
    this.ring.setAttribute("cy", String(py(row.precision)));
  }

  private draw(): SVGElement {
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": this.words() });
    for (const tick of TICKS) {
      svg.append(
        shape("path", { class: "grid", d: `M${px(0)} ${py(tick)}H${px(1)}M${px(tick)} ${py(0)}V${py(1)}` }),
        shape("text", { x: px(0) - 6, y: py(tick) + 4, "text-anchor": "end" }, String(tick)),
        shape("text", { x: px(tick), y: py(0) + 16, "text-anchor": "middle" }, String(tick)),
      );
    }
    const { recall, precision } = this.used;
    svg.append(
      shape("text", { x: px(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, "recall"),
      shape("text", { x: 12, y: py(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${py(0.5)})` }, "precision"),
      shape("path", { class: "line", d: `M${this.rows.map((row) => `${px(row.recall).toFixed(1)} ${py(row.precision).toFixed(1)}`).join("L")}` }),
      shape("path", { class: "taken", d: diamondPath(px(recall), py(precision)) }),
      this.ring,
    );
    return svg;
  }

  private words(): string {
    const average = averagePrecision(this.rows);
    const { threshold, precision, recall } = this.used;
    const at = `◆ threshold ${threshold.toFixed(2)}: precision ${precision.toFixed(3)}, recall ${recall.toFixed(3)}`;
    return average === null ? at : `average precision ${average.toFixed(3)}, ${at}`;
  }

  private figure(): Figure {
    const { recall, precision } = this.used;
    return {
      title: `precision and recall on ${this.element.dataset["part"]}`,
      caption: this.caption,
      xName: "recall",
      yName: "precision",
      x: [0, 1],
      y: [0, 1],
      log: false,
      xText: String,
      lines: [{ name: "", marked: false, points: this.rows.map((row) => ({ x: row.recall, y: row.precision })) }],
      breaks: [],
      references: [],
      notFinite: [],
      mark: { x: recall, y: precision, text: this.words() },
    };
  }
}

/** Draws the curve of the results, where there is one that is not drawn yet. */
export async function drawThresholds(caption: string): Promise<void> {
  const element = document.getElementById("thresholds");
  if (!element || element.querySelector("svg")) return;
  const answer = await fetch(element.dataset["address"]!, { credentials: "same-origin" }).catch(() => null);
  const rows = answer?.ok ? read(await answer.text()) : [];
  if (rows.length) new Thresholds(element, rows, caption);
  else element.querySelector(".plot")!.textContent = "The table of thresholds could not be read. Reload the page; the scores above do not depend on it.";
}
