// The list of layers beside the micrograph: which are shown, their opacity, style and run.
import { errorsBetween, readBytes, readPicture, renumbered, thinned, type ByteMap } from "./class_map";
import { Activation, Classes, Errors, Painting, type Drawn, type Figure, type Style } from "./overlay";
import { ramp } from "./colour_maps";
import type { Shown } from "./permalink";

export interface ClassNames {
  [value: string]: { name: string; colour: string };
}

export interface MaskLayer {
  layer: string;
  url: string;
  classes: ClassNames;
}

export interface Run {
  id: number;
  job: number;
  name: string;
  url: string;
  sheet: string;
  facts: Record<string, unknown>;
}

export interface LayerData {
  width: number;
  masks: MaskLayer[];
  predictions: Run[];
  cams: Run[];
  colours: Run[];
}

type Kind = "mask" | "prediction" | "errors" | "cam" | "colour";

/** What the reader chose, to be chosen again of another item: its runs are other pictures of the same jobs. */
export interface Choice extends Pick<Shown, "on" | "opacity" | "style" | "prediction" | "cam" | "colour"> {
  runs?: Map<Kind, string>;
}

const MASK_COLOURS = ["--mask", "--class-3", "--class-4", "--class-5"];
const PREDICTION_COLOURS = ["--prediction", "--class-3", "--class-4", "--class-5"];
/** Below this fall of confidence a map explains nothing. */
const LEAST_DROP = 0;

/** One line of the list. */
export class Layer {
  readonly kind: Kind;
  readonly key: string;
  readonly on: HTMLInputElement;
  readonly opacity: HTMLInputElement | null;
  readonly style: HTMLSelectElement | null;
  readonly run: HTMLSelectElement | null;
  figure: Figure | null = null;

  constructor(readonly element: HTMLElement, changed: (layer: Layer) => void) {
    const { layer, mask } = element.dataset;
    this.kind = layer as Kind;
    this.key = mask === undefined ? this.kind : `mask:${mask}`;
    this.on = this.part<HTMLInputElement>("on")!;
    this.opacity = this.part<HTMLInputElement>("opacity");
    this.style = this.part<HTMLSelectElement>("style");
    this.run = this.part<HTMLSelectElement>("run");
    this.on.addEventListener("change", () => changed(this));
    this.style?.addEventListener("change", () => changed(this));
    this.run?.addEventListener("change", () => {
      this.figure = null;
      this.on.checked = true;
      changed(this);
    });
    this.opacity?.addEventListener("input", () => {
      this.showOpacity();
      changed(this);
    });
  }

  part<E extends HTMLElement>(name: string): E | null {
    return this.element.querySelector<E>(`[data-part="${name}"]`);
  }

  get shown(): boolean {
    return this.on.checked && !this.on.disabled;
  }

  setOpacity(percent: number): void {
    if (!this.opacity) return;
    this.opacity.value = String(percent);
    this.showOpacity();
  }

  private showOpacity(): void {
    this.part("percent")!.textContent = `${this.opacity!.value} %`;
  }
}

/** Masks and predictions are shown unless the reader chose otherwise. */
function isShownByDefault(layer: Layer): boolean {
  return layer.kind === "mask" || layer.kind === "prediction";
}

const RUNS = ["prediction", "cam", "colour"] as const;

/** Distinguishes the runs of one kind, in the same way for every item. */
function runKey(run: Run): string {
  const { method, layer, target } = run.facts;
  return JSON.stringify([run.job, method ?? "", layer ?? "", target ?? ""]);
}

function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** All layers of an item. `changed` is called when there is something new to draw. */
export class Layers {
  readonly all: Layer[];
  /** The layer that was changed last: the opacity keys act on it. */
  current: Layer | null = null;
  private readonly maps = new Map<string, Promise<ByteMap>>();
  /** As chosen; it may name layers that this item does not have. */
  private choice: Choice = { opacity: {}, style: {} };

  constructor(
    panel: Element,
    private readonly data: LayerData,
    private readonly handlers: {
      changed: (layers: Layers) => void;
      failed: (sentence: string, layers: Layers) => void;
    },
  ) {
    const elements = [...panel.querySelectorAll<HTMLElement>(".layer")];
    this.all = elements.map((each) => new Layer(each, (layer) => this.layerChanged(layer)));
    const errors = this.find("errors");
    if (errors) errors.on.disabled = !(data.masks.length && data.predictions.length);
    if (errors?.on.disabled) errors.element.classList.add("absent");
  }

  find(kind: Kind): Layer | undefined {
    return this.all.find((layer) => layer.kind === kind);
  }

  /** Shows what was chosen. Resolves once all of it is loaded. */
  async apply(choice: Choice): Promise<void> {
    this.setChoice(choice);
    await Promise.all(this.all.filter((layer) => layer.shown && !layer.figure).map((layer) => this.load(layer)));
  }

  private setChoice(shown: Choice): void {
    this.choice = shown;
    for (const layer of this.all) {
      const wanted = shown.on ? shown.on.includes(layer.key) || shown.on.includes(layer.kind) : isShownByDefault(layer);
      layer.on.checked = wanted && !layer.on.disabled;
      const opacity = shown.opacity[layer.key];
      if (opacity !== undefined) layer.setOpacity(opacity);
      const style = shown.style[layer.key];
      if (style && layer.style) layer.style.value = style;
    }
    for (const kind of RUNS) {
      const layer = this.find(kind);
      if (!layer?.run) continue;
      const wantedKey = shown.runs?.get(kind);
      const same = (run: Run): boolean => runKey(run) === wantedKey;
      const wanted = wantedKey === undefined ? shown[kind] : this.runsOf(kind).find(same)?.id;
      if (wanted === undefined || wanted === Number(layer.run.value)) continue;
      if (![...layer.run.options].some((option) => option.value === String(wanted))) continue;
      layer.run.value = String(wanted);
      layer.figure = null;
      const errors = this.find("errors");
      if (errors && kind === "prediction") errors.figure = null;
    }
  }

  /** For the next item: as `shown`, with runs by what made them. */
  get chosen(): Choice {
    const runs = new Map(this.choice.runs);
    for (const kind of RUNS) {
      const run = this.chosenRun(kind);
      if (run) runs.set(kind, runKey(run));
    }
    return { ...this.shown, runs };
  }

  /** For the address: all but the view and the window. */
  get shown(): Pick<Shown, "on" | "opacity" | "style" | "prediction" | "cam" | "colour"> {
    const present = new Set(this.all.filter((layer) => !layer.on.disabled).map((layer) => layer.key));
    const absent = ([key]: [string, unknown]): boolean => !present.has(key);
    const opacity = Object.fromEntries(Object.entries(this.choice.opacity).filter(absent));
    const style = Object.fromEntries(Object.entries(this.choice.style).filter(absent));
    for (const layer of this.all) {
      if (layer.opacity && layer.opacity.value !== "100") opacity[layer.key] = Number(layer.opacity.value);
      if (layer.style && layer.style.selectedIndex > 0) style[layer.key] = layer.style.value;
    }
    const on = this.all.filter((layer) => layer.shown).map((layer) => layer.key);
    const wanted = this.choice.on ?? this.all.filter(isShownByDefault).map((layer) => layer.key);
    on.push(...wanted.filter((key) => !present.has(key)));
    const [prediction, cam, colour] = RUNS.map((kind) => this.find(kind)?.run?.value);
    return {
      on, opacity, style,
      ...(prediction ? { prediction: Number(prediction) } : {}),
      ...(cam ? { cam: Number(cam) } : {}),
      ...(colour ? { colour: Number(colour) } : {}),
    };
  }

  /** From the lowest to the highest. */
  get drawn(): Drawn[] {
    const found: Drawn[] = [];
    for (const layer of this.all.toReversed()) {
      if (!layer.shown || !layer.figure) continue;
      const style = (layer.style?.value ?? "fill") as Style;
      found.push({ figure: layer.figure, style, opacity: Number(layer.opacity?.value ?? 100) / 100 });
    }
    return found;
  }

  toggle(kind: Kind): void {
    const layer = this.find(kind);
    if (!layer || layer.on.disabled) return;
    layer.on.checked = !layer.on.checked;
    this.layerChanged(layer);
  }

  changeOpacity(by: number): void {
    const layer = this.current ?? this.all.find((each) => each.shown);
    if (!layer?.opacity) return;
    layer.setOpacity(Math.min(100, Math.max(0, Number(layer.opacity.value) + by)));
    this.layerChanged(layer);
  }

  private layerChanged(layer: Layer): void {
    this.current = layer;
    const errors = this.find("errors");
    if (layer.kind === "prediction" && errors) errors.figure = null;
    for (const each of [layer, errors]) if (each?.shown && !each.figure) void this.load(each);
    this.handlers.changed(this);
  }

  private read(url: string): Promise<ByteMap> {
    let found = this.maps.get(url);
    if (!found) {
      this.maps.set(url, (found = readBytes(url, this.data.width)));
      found.catch(() => this.maps.delete(url));
    }
    return found;
  }

  private runsOf(kind: (typeof RUNS)[number]): Run[] {
    return { prediction: this.data.predictions, cam: this.data.cams, colour: this.data.colours }[kind];
  }

  private chosenRun(kind: (typeof RUNS)[number]): Run | undefined {
    const id = this.find(kind)?.run?.value;
    return this.runsOf(kind).find((run) => String(run.id) === id);
  }

  private async prediction(): Promise<{ map: ByteMap; run: Run }> {
    const run = this.chosenRun("prediction")!;
    const values = Array.isArray(run.facts["classes"]) ? (run.facts["classes"] as number[]) : [];
    const map = await this.read(run.url);
    return { map: values.length ? renumbered(map, values) : map, run };
  }

  /** The mask that the chosen prediction was trained on, else the first. */
  private truth(run: Run): MaskLayer {
    return this.data.masks.find((mask) => mask.layer === run.facts["mask_layer"]) ?? this.data.masks[0]!;
  }

  private async load(layer: Layer): Promise<void> {
    const run = layer.run?.value;
    try {
      const figure = await this.figure(layer);
      // The reader may have chosen another run meanwhile.
      if (layer.run?.value === run) layer.figure = figure;
    } catch {
      layer.on.checked = false;
      const name = layer.kind === "cam" ? "CAM" : layer.kind;
      this.handlers.failed(`The layer ${name} could not be read. Reload the page.`, this);
    }
    this.handlers.changed(this);
  }

  private async figure(layer: Layer): Promise<Figure> {
    if (layer.kind === "mask") return this.mask(layer);
    if (layer.kind === "cam") return this.cam(layer);
    if (layer.kind === "colour") return new Painting(await readPicture(this.chosenRun("colour")!.url), this.data.width);
    const { map, run } = await this.prediction();
    if (layer.kind === "prediction") {
      const iou = run.facts["foreground_iou"];
      layer.part("note")!.textContent = typeof iou === "number" ? `foreground IoU ${iou.toFixed(3)}, n = 1 image` : "";
      const names = this.data.masks.length ? this.truth(run).classes : {};
      return this.classes(layer, map, names, PREDICTION_COLOURS, true);
    }
    const truth = await this.read(this.truth(run).url);
    const predicted = thinned(map, truth.factor / map.factor);
    if (truth.width !== predicted.width || truth.height !== predicted.height) throw new Error("sizes differ");
    const errors = errorsBetween(truth, predicted);
    const share = (part: ByteMap): string =>
      `${((100 * part.values.reduce((sum, v) => sum + v, 0)) / part.values.length).toFixed(1)} %`;
    layer.part("note")!.textContent = `${share(errors.missed)}, ${share(errors.invented)} of the image`;
    return new Errors(errors, { mask: token("--mask"), prediction: token("--prediction") });
  }

  private async mask(layer: Layer): Promise<Figure> {
    const mask = this.data.masks.find((each) => `mask:${each.layer}` === layer.key)!;
    return this.classes(layer, await this.read(mask.url), mask.classes, MASK_COLOURS, false);
  }

  private classes(layer: Layer, map: ByteMap, names: ClassNames, colours: string[], own: boolean): Figure {
    const values = Object.keys(names).map(Number);
    const place = (value: number): number => Math.max(0, values.indexOf(value));
    const several = values.length > 1;
    // One class has the colour of its layer everywhere; several have those that the dataset gives them.
    const colourOf = (value: number): string =>
      (several && !own && names[String(value)]?.colour) || token(colours[place(value) % colours.length]!);
    const legend = layer.part("classes");
    if (legend && several) legend.replaceChildren(...values.map((value) => key(names[String(value)]!.name, colourOf(value))));
    return new Classes(map, colourOf);
  }

  private async cam(layer: Layer): Promise<Figure> {
    const run = this.chosenRun("cam")!;
    const figure = new Activation(await this.read(run.url));
    const { method, layer: where, target, confidence_drop: drop, random_correlation: alike } = run.facts;
    const figures = [`${String(method)}, ${String(where)}, target ${String(target)}.`];
    if (typeof drop === "number") figures.push(`Confidence falls ${drop.toFixed(2)} with the brightest 20 % hidden.`);
    if (typeof alike === "number") figures.push(`Correlation with the map from random weights ${alike.toFixed(2)}.`);
    layer.part("cam-words")!.textContent = figures.join(" ");
    const sheet = layer.part<HTMLAnchorElement>("sheet")!;
    sheet.hidden = !run.sheet;
    if (run.sheet) {
      sheet.href = run.sheet;
      sheet.querySelector("img")!.src = run.sheet;
    }
    layer.part("cam-facts")!.hidden = false;
    return figure;
  }

  /** The sentence to show on the map itself where its check failed; empty where it held, or where no map is shown. */
  get warning(): string {
    const layer = this.find("cam");
    const run = layer?.shown ? this.chosenRun("cam") : undefined;
    if (!run) return "";
    const { confidence_drop: drop, random_correlation: alike, random_correlation_limit: limit } = run.facts;
    if (typeof drop === "number" && drop <= LEAST_DROP) {
      return "Hiding the brightest part does not lower the confidence: this map is not reliable";
    }
    if (typeof alike === "number" && alike >= Number(limit)) {
      return "Random weights give nearly the same map: it is not reliable";
    }
    return "";
  }

  /** The ramp beside the map, in the colours in which it is drawn. */
  paintBar(): void {
    const layer = this.find("cam");
    const context = layer?.part("ramp")?.querySelector("canvas")?.getContext("2d");
    if (!layer || !context) return;
    context.clearRect(0, 0, 256, 10);
    for (const [value, [r, g, b, a]] of ramp(layer.style?.value === "alone" ? "alone" : "over")) {
      context.fillStyle = `rgb(${r} ${g} ${b} / ${a! / 255})`;
      context.fillRect(value, 0, 1, 10);
    }
  }
}

function key(name: string, colour: string): HTMLElement {
  const box = document.createElement("span");
  box.className = "key";
  box.textContent = name;
  box.style.setProperty("--key", colour);
  return box;
}
