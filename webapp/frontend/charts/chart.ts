// One chart: a quantity over steps, epochs or time, drawn by uPlot from what was measured.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { annotate, breakText, type Annotations } from "./annotations";
import { AXIS_NAMES, tickText } from "./axis";
import { token } from "../shared/theme_colours";
import { exportButtons, type Figure } from "./chart_export";
import { integerText, numberText, quantityName } from "../shared/numbers";
import { bestOf, isRatio, nearest, smoothed, type Point, type Points, type Series, type XAxis } from "./series";
import { DOT, lineWidth, type ReferenceLine } from "./marks";
import { ratioRange, xRange, yRange, type View } from "./axis_limits";

export interface Options {
  x: XAxis;
  /** Weight of the exponential mean on training curves; 0 is off. */
  smoothing: number;
  log: boolean;
  /** Ratios drawn from 0 to 1. */
  unit: boolean;
  /** The part of the x axis that is shown; null is all of it. */
  view: View | null;
}

export interface Reference extends ReferenceLine {
  quantity: string;
}

interface Surroundings {
  references: Reference[];
  /** Job, revision and preset, written into exports. */
  caption: string;
  onHover: (x: number | null) => void;
  onZoom: (view: View | null) => void;
}

const HEIGHT = 220;
/** Room beside the plot for the names of the lines. */
const NAMES_WIDTH = 76;

function valueText(className: string, textContent: string): HTMLElement {
  return Object.assign(document.createElement("span"), { className, textContent });
}

export class Chart {
  readonly element: HTMLElement;
  private readonly values: HTMLElement;
  private readonly plotHolder: HTMLElement;
  private plot: uPlot | null = null;
  private readonly ratio: boolean;

  constructor(
    readonly quantity: string,
    public series: Series[],
    private readonly points: Points,
    private readonly options: Options,
    private readonly around: Surroundings,
  ) {
    this.ratio = isRatio(quantity);
    this.element = document.createElement("figure");
    this.element.className = "card chart";
    const head = document.createElement("figcaption");
    const title = Object.assign(document.createElement("h3"), { textContent: quantityName(quantity) });
    this.values = Object.assign(document.createElement("span"), { className: "values" });
    const exports = Object.assign(document.createElement("span"), { className: "exports" });
    exports.append(...exportButtons(quantityName(quantity), () => this.figure()));
    head.append(title, exports, this.values);
    this.plotHolder = Object.assign(document.createElement("div"), { className: "plot" });
    this.element.append(head, this.plotHolder);
    new ResizeObserver(() => this.resize()).observe(this.plotHolder);
  }

  setSeries(series: Series[]): void {
    if (series.length === this.series.length) return;
    this.series = series;
    this.rebuild();
  }

  /** Forgets the plot, so that the next frame draws it anew: other colours, scales or series. */
  rebuild(): void {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  draw(): void {
    const data = this.data();
    if (this.plot) this.plot.setData(data);
    else if (this.plotHolder.clientWidth) this.plot = new uPlot(this.plotOptions(), data, this.plotHolder);
    this.showValues(null);
  }

  moveCursor(x: number): void {
    if (this.plot) this.plot.setCursor({ left: this.plot.valToPos(x, "x"), top: this.plot.bbox.height / devicePixelRatio / 2 });
  }

  /** Writes each series' value at `x`, or its last one, into the row above the plot. */
  showValues(x: number | null): void {
    const place = this.points.placer(this.options.x);
    const values = this.series.map((series) => {
      const points = series.points;
      const point = x === null ? points.at(-1) : nearest(points, x, place);
      const text = point ? numberText(point.value, this.ratio) : "–";
      return valueText(series.part || "only", `${series.part} ${text}`.trim());
    });
    const best = this.best();
    if (best) {
      values.push(valueText("best", `best ${this.bestText()}`));
    }
    for (const { label, value } of this.around.references) {
      values.push(valueText("reference", `${label}: ${numberText(value, this.ratio)}`));
    }
    if (this.options.smoothing && this.smooths.some(Boolean)) {
      values.push(valueText("caption", `EMA ${this.options.smoothing}`));
    }
    this.values.replaceChildren(...values);
  }

  private best(): Point | null {
    for (const series of this.series) {
      const best = bestOf(series);
      if (best) return best;
    }
    return null;
  }

  /** "0.842 @ epoch 31" */
  private bestText(): string {
    const best = this.best();
    if (!best) return "";
    const epochs = this.points.stepsPerEpoch;
    const at = epochs ? `epoch ${integerText(best.step / epochs)}` : `step ${integerText(best.step)}`;
    return `${numberText(best.value, this.ratio)} @ ${at}`;
  }

  /** Which series are smoothed: training curves only, never validation, never the learning rate. */
  private get smooths(): boolean[] {
    return this.series.map((one) => this.options.smoothing > 0 && one.part === "train");
  }

  /** One x axis for all series. undefined: not measured there, the line goes on; null: a break, it does not. */
  private data(): uPlot.AlignedData {
    const place = this.points.placer(this.options.x);
    const columns: { xs: number[]; ys: (number | null)[] }[] = [];
    this.series.forEach((series, index) => {
      const xs = series.points.map(place);
      const ys = series.points.map((point) => this.drawable(point.value));
      columns.push({ xs, ys });
      if (this.smooths[index]) columns.push({ xs, ys: smoothed(series.points, this.options.smoothing) });
    });
    const breaks = this.points.breaks.map((one) => this.points.placeOfBreak(one, this.options.x));
    const all = new Set(breaks);
    for (const { xs } of columns) for (const x of xs) all.add(x);
    const shared = [...all].sort((a, b) => a - b);
    const at = new Map(shared.map((x, index) => [x, index]));
    const rows = columns.map(({ xs, ys }) => {
      const row: (number | null | undefined)[] = new Array(shared.length).fill(undefined);
      for (const x of breaks) row[at.get(x)!] = null;
      xs.forEach((x, index) => (row[at.get(x)!] = ys[index]));
      return row;
    });
    return [shared, ...rows] as uPlot.AlignedData;
  }

  private drawable(value: number | null): number | null {
    return value !== null && this.logarithmic && value <= 0 ? null : value;
  }

  private get logarithmic(): boolean {
    return this.options.log && !this.ratio;
  }

  private plotOptions(): uPlot.Options {
    const line = token("run-1");
    const text = token("muted");
    const grid = { stroke: token("hairline"), width: 1 };
    const axis = { stroke: text, grid, ticks: grid, font: "12px system-ui, sans-serif" };
    const lines: uPlot.Series[] = [];
    this.series.forEach((series, index) => {
      const validation = series.part === "validation";
      const shape: uPlot.Series = {
        stroke: line,
        width: lineWidth(validation),
        spanGaps: false,
        points: validation ? { show: true, size: DOT, fill: line, stroke: line } : { show: series.points.length < 2 },
      };
      lines.push(this.smooths[index] ? { ...shape, alpha: 0.35 } : shape);
      if (this.smooths[index]) lines.push({ ...shape, width: 2 });
    });
    return {
      width: this.plotHolder.clientWidth,
      height: HEIGHT,
      padding: [20, this.named ? NAMES_WIDTH : 16, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: this.options.x === "clock", range: (_plot, least, most) => this.xRange(least, most) },
        y: this.logarithmic ? { distr: 3 } : { range: (_plot, least, most) => this.yRange(least, most) },
      },
      series: [{}, ...lines],
      axes: [
        { ...axis, label: AXIS_NAMES[this.options.x], labelSize: 20, labelFont: axis.font, size: 32, values: (_plot, ticks) => ticks.map((x) => tickText(x, this.options.x)) },
        { ...axis, label: quantityName(this.quantity), labelSize: 20, labelFont: axis.font, size: 68, values: (_plot, ticks) => ticks.map((v) => (v === null ? "" : numberText(v))) },
      ],
      cursor: {
        sync: { key: "job" },
        drag: { x: true, y: false, setScale: false },
        points: { size: 8, fill: line },
      },
      hooks: {
        draw: [(plot) => annotate(plot, this.annotations())],
        setCursor: [(plot) => this.around.onHover(this.cursorPlace(plot))],
        setSelect: [
          (plot) => {
            if (plot.select.width < 4) return;
            const min = plot.posToVal(plot.select.left, "x");
            const max = plot.posToVal(plot.select.left + plot.select.width, "x");
            plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
            this.around.onZoom({ min, max });
          },
        ],
        ready: [(plot) => plot.over.addEventListener("dblclick", () => this.around.onZoom(null))],
      },
    };
  }

  private cursorPlace(plot: uPlot): number | null {
    const { left } = plot.cursor;
    return left === undefined || left === null || left < 0 ? null : plot.posToVal(left, "x");
  }

  private xRange(least: number | null, most: number | null): [number, number] {
    return xRange(this.options.view, least, most);
  }

  private yRange(least: number | null, most: number | null): [number, number] {
    const marks = this.around.references.map((reference) => reference.value);
    return this.ratio ? ratioRange(least, most, { marks, whole: this.options.unit }) : yRange(least, most, marks);
  }

  private annotations(): Annotations {
    const place = this.points.placer(this.options.x);
    const best = this.best();
    return {
      breaks: this.points.breaks.map((attempt) => ({
        x: this.points.placeOfBreak(attempt, this.options.x),
        from: this.points.placeOfPause(attempt, this.options.x),
        attempt,
      })),
      references: this.around.references,
      notFinite: this.series.flatMap(({ points }) => points.filter(({ value }) => value === null)).map((point) => ({
        x: place(point),
        words: `${point.reason || "not finite"}, step ${integerText(point.step)}`,
      })),
      best: best ? { x: place(best), y: best.value! } : null,
      ends: this.ends(place),
    };
  }

  /** Whether the lines have names of their own beside the chart's. */
  private get named(): boolean {
    return this.series.some((series) => series.part);
  }

  /** The last point in view of each line. */
  private ends(place: (point: Point) => number): Annotations["ends"] {
    const most = this.options.view?.max ?? Infinity;
    return this.series.flatMap(({ points, part }) => {
      const last = points.findLast((point) => place(point) <= most && this.drawable(point.value) !== null);
      return last ? [{ y: last.value!, words: part }] : [];
    });
  }

  private resize(): void {
    const width = this.plotHolder.clientWidth;
    if (!width) return;
    if (!this.plot) this.draw();
    else if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  private figure(): Figure {
    const place = this.points.placer(this.options.x);
    const { breaks, best, notFinite } = this.annotations();
    let least = Infinity;
    let most = -Infinity;
    const lines = this.series.map((series) => ({
      name: series.part || quantityName(this.quantity),
      marked: series.part === "validation",
      points: series.points.map((point) => {
        const y = this.drawable(point.value);
        if (y !== null) [least, most] = [Math.min(least, y), Math.max(most, y)];
        return { x: place(point), y };
      }),
    }));
    const places = lines.flatMap(({ points }) => [points[0]?.x, points.at(-1)?.x]).filter((x) => x !== undefined);
    return {
      title: quantityName(this.quantity),
      caption: this.around.caption,
      xName: AXIS_NAMES[this.options.x],
      yName: quantityName(this.quantity),
      x: this.xRange(Math.min(...places), Math.max(...places)),
      y: this.logarithmic ? [least, most] : this.yRange(least, most),
      log: this.logarithmic,
      xText: (x) => tickText(x, this.options.x),
      lines,
      breaks: breaks.map(({ x, attempt }) => ({ x, words: breakText(attempt) })),
      references: this.around.references,
      notFinite,
      mark: best ? { ...best, text: `best ${this.bestText()}` } : null,
    };
  }
}
