// All charts of a job: one per quantity, sharing their x axis, zoom, crosshair and options.
import { placeText } from "./axis";
import { Chart, type Options, type Reference } from "./chart";
import { onThemeChange } from "../shared/theme_colours";
import { integerText, numberText, quantityName } from "../shared/numbers";
import { bestOf, isRatio, type Points, type XAxis } from "./series";

const ORDER = [
  ...["loss", "foreground_iou", "mean_iou", "background_iou", "dice", "cross_entropy", "ab_error"],
  ...["knn_accuracy", "embedding_std", "effective_rank"],
];
/** Live points are drawn at most this often. */
const FRAME_MS = 250;
const TABLE_ROWS = 1000;

export class Charts {
  private readonly charts = new Map<string, Chart>();
  private readonly options: Options = { x: "step", smoothing: 0, log: false, unit: false, view: null };
  private dirty = false;
  private timer = 0;
  private cursor: number | null = null;

  constructor(
    private readonly points: Points,
    private readonly holder: HTMLElement,
    private readonly readout: HTMLElement,
    private readonly table: HTMLElement,
    private readonly references: Reference[],
    private readonly caption: string,
  ) {
    onThemeChange(() => {
      for (const chart of this.charts.values()) chart.rebuild();
    });
  }

  /** New points have come: draws them with the next frame. */
  changed(): void {
    this.dirty = true;
    if (!this.timer) this.timer = window.setTimeout(() => this.frame(), this.charts.size ? FRAME_MS : 0);
  }

  bindOptions(form: HTMLFormElement): void {
    form.addEventListener("change", () => {
      const data = new FormData(form);
      const x = data.get("x") as XAxis;
      if (x !== this.options.x) this.options.view = null;
      this.options.x = x;
      this.options.smoothing = Number(data.get("smoothing"));
      this.options.log = data.has("log");
      this.options.unit = data.has("unit");
      this.table.hidden = !data.has("table");
      for (const chart of this.charts.values()) chart.rebuild();
      this.frame();
    });
  }

  /** Moves the crosshair to the next or previous point of the first series. */
  walk(direction: 1 | -1): void {
    const series = [...this.points.series.values()][0];
    if (!series) return;
    const place = this.points.placer(this.options.x);
    const places = series.points.map(place);
    const now = this.cursor ?? (direction > 0 ? -Infinity : Infinity);
    const next = direction > 0 ? places.find((x) => x > now) : places.findLast((x) => x < now);
    if (next !== undefined) this.point(next);
  }

  /** Moves the crosshair to the best point of the first series that has one. */
  toBest(): void {
    for (const chart of this.charts.values()) {
      for (const series of chart.series) {
        const best = bestOf(series);
        if (best && isRatio(series.quantity)) return this.point(this.points.placer(this.options.x)(best));
      }
    }
  }

  zoom(factor: number): void {
    const range = this.range();
    if (!range) return;
    const [least, most] = range;
    const view = this.options.view ?? { min: least, max: most };
    const width = (view.max - view.min) * factor;
    this.options.view = width >= most - least ? null : { min: Math.max(least, view.max - width), max: view.max };
    this.redraw();
  }

  showAll(): void {
    this.options.view = null;
    this.redraw();
  }

  private point(x: number): void {
    this.hover(x);
    for (const chart of this.charts.values()) chart.moveCursor(x);
  }

  private frame(): void {
    this.timer = 0;
    if (this.dirty) this.makeCharts();
    this.dirty = false;
    this.follow();
    this.redraw();
    if (!this.table.hidden) this.fillTable();
  }

  private redraw(): void {
    for (const chart of this.charts.values()) chart.draw();
    this.showPlace();
  }

  private range(): [number, number] | null {
    const place = this.points.placer(this.options.x);
    let least = Infinity;
    let most = -Infinity;
    for (const { points } of this.points.series.values()) {
      if (!points.length) continue;
      least = Math.min(least, place(points[0]!));
      most = Math.max(most, place(points.at(-1)!));
    }
    return most > least ? [least, most] : null;
  }

  private seen = -Infinity;

  /** A zoomed view moves on with the run only if the run's end was in it. */
  private follow(): void {
    const most = this.range()?.[1] ?? -Infinity;
    const view = this.options.view;
    if (view && view.max >= this.seen && most > view.max) {
      this.options.view = { min: view.min + most - view.max, max: most };
    }
    this.seen = most;
  }

  private makeCharts(): void {
    const quantities = new Set([...this.points.series.values()].map((series) => series.quantity));
    for (const quantity of quantities) {
      const series = [...this.points.series.values()].filter((one) => one.quantity === quantity);
      const chart = this.charts.get(quantity);
      if (chart) {
        chart.setSeries(series);
        continue;
      }
      const made = new Chart(quantity, series, this.points, this.options, {
        references: this.references.filter((reference) => reference.quantity === quantity),
        caption: this.caption,
        onHover: (x) => this.hover(x),
        onZoom: (view) => {
          this.options.view = view;
          this.redraw();
        },
      });
      this.charts.set(quantity, made);
    }
    const sorted = [...this.charts.values()].sort((a, b) => rank(a.quantity) - rank(b.quantity));
    if (sorted.some((chart, index) => this.holder.children[index] !== chart.element)) {
      this.holder.replaceChildren(...sorted.map((chart) => chart.element));
    }
  }

  private hover(x: number | null): void {
    if (x === this.cursor) return;
    this.cursor = x;
    for (const chart of this.charts.values()) chart.showValues(x);
    this.showPlace();
  }

  private showPlace(): void {
    const range = this.range();
    const x = this.cursor ?? range?.[1];
    if (x === undefined) return;
    const words = this.cursor === null ? "latest" : "at";
    this.readout.textContent = `${words} ${placeText(x, this.options.x)}`;
  }

  private fillTable(): void {
    const all = [...this.points.series.values()];
    const rows = new Map<number, (string | undefined)[]>();
    all.forEach((series, column) => {
      for (const point of series.points) {
        const row = rows.get(point.step) ?? [];
        row[column] = numberText(point.value, isRatio(series.quantity));
        rows.set(point.step, row);
      }
    });
    const steps = [...rows.keys()].sort((a, b) => b - a);
    const table = document.createElement("table");
    if (steps.length > TABLE_ROWS) {
      const counts = `${integerText(TABLE_ROWS)} of ${integerText(steps.length)}`;
      table.createCaption().textContent = `The last ${counts} steps; the CSV has all.`;
    }
    const head = table.createTHead().insertRow();
    for (const name of ["step", ...all.map((series) => `${quantityName(series.quantity)} ${series.part}`)]) {
      head.append(Object.assign(document.createElement("th"), { textContent: name, className: "figure" }));
    }
    const body = table.createTBody();
    for (const step of steps.slice(0, TABLE_ROWS)) {
      const row = body.insertRow();
      for (const text of [integerText(step), ...all.map((_, column) => rows.get(step)![column] ?? "")]) {
        Object.assign(row.insertCell(), { textContent: text, className: "figure" });
      }
    }
    this.table.replaceChildren(table);
  }
}

function rank(quantity: string): number {
  if (quantity === "learning_rate") return ORDER.length + 1;
  const at = ORDER.indexOf(quantity);
  return at < 0 ? ORDER.length : at;
}
