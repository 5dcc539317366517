// The viewer of one item: micrograph, layers, contrast, scale bar, read-out, keys. Other items take its place without a
// page load, the picture that is shown staying until theirs is whole.
import "./styles/viewer.css";
import { bindKeys } from "./shared/keys";
import { whole } from "./shared/numbers";
import { bare as withoutView, readAddress, written } from "./viewer/permalink";
import { readBytes, type ByteMap } from "./viewer/class_map";
import { ContrastPanel, tableFor, type Histogram, type Window } from "./viewer/contrast";
import { addressOf, isEightBit, isTurned, itemOf, ownWindow, rasterOf, type Item } from "./viewer/item";
import { Layers } from "./viewer/layers";
import { Order } from "./viewer/neighbours";
import { Overlay } from "./viewer/overlay";
import { copyAddress, picture as pictureOf, saveAs } from "./viewer/screenshot";
import { readoutOf } from "./viewer/readout";
import { drawScaleBar, scaleBar } from "./viewer/scalebar";
import { canWait, Slide, Slides } from "./viewer/prefetch";
import { Stage, type Frame, type Picture, type Raster } from "./viewer/canvas";
import { Stepper } from "./viewer/stepper";
import { bindShiftWheel } from "./viewer/wheel";
import { onThemeChange } from "./shared/theme_colours";

const one = <E extends HTMLElement>(selector: string): E => document.querySelector<E>(selector)!;
const query = new URLSearchParams(location.search);
const start = readAddress(query);
const scope = one<HTMLSelectElement>('[data-act="scope"]');
const invert = one<HTMLInputElement>('[data-act="invert"]');
const first = itemOf(document);

/** What is shown now. */
let item: Item = first;
let windowNow: Window = start.window ?? ownWindow(first);
let raster: Raster = rasterOf(first, ownWindow(first));
let values: ByteMap | null = null;
invert.checked = start.inverted !== isTurned(first);
let barWanted = localStorage.getItem("scale-bar") !== "off";
let pointer: { left: number; top: number } | null = null;
let finer = 0;
let settling = 0;

const tableNow = (): Uint8ClampedArray => tableFor(raster, windowNow, invert.checked);
const stage = new Stage(
  one("#stage"),
  { size: first, tiles: first.tiles, raster, table: tableNow() },
  { moved, failed: () => trouble("The image could not be read. Reload the page.") },
);
const overlay = new Overlay(one("#stage"), () => stage.placement);
const contrast = new ContrastPanel(one("#contrast"), windowNow, !first.dtype.startsWith("float"), setWindow);
let slide = new Slide(first, document, layersOf(document, first));

function layersOf(page: Document, of: Item): Layers {
  return new Layers(page.querySelector("#layers")!, of, {
    changed: (layers) => void (layers === slide.layers && drawLayers()),
    failed: (sentence, layers) => void (layers === slide.layers && trouble(sentence)),
  });
}

function trouble(sentence: string): void {
  const notice = one("#stage-notice");
  notice.textContent = sentence;
  notice.hidden = !sentence;
}

function drawLayers(): void {
  overlay.set(slide.layers.drawn);
  slide.layers.paintBar();
  const warning = one("#cam-warning");
  warning.hidden = !slide.layers.warning;
  warning.querySelector("span")!.textContent = slide.layers.warning;
  say();
}

// --- contrast ---------------------------------------------------------------------------------------------------

function setWindow(window: Window): void {
  windowNow = window;
  applyWindow();
  // Eight bits hold all that an 8-bit image has. Of a deeper one the server draws the new window from the source.
  clearTimeout(finer);
  if (!isEightBit(item)) finer = setTimeout(() => void fetchWindow(window), 250);
  say();
}

async function fetchWindow(window: Window): Promise<void> {
  const next = rasterOf(item, window);
  const shown = slide;
  if (!(await stage.show(next, tableFor(next, window, invert.checked)))) return;
  shown.leave(stage);
  shown.has(stage.picture);
  if (windowNow !== window) return;
  raster = next;
  values = null;
  applyWindow();
  readValues().catch(() => undefined);
}

function applyWindow(): void {
  stage.setTable(tableNow());
  sayWindow();
}

function sayWindow(): void {
  const digits = { maximumSignificantDigits: 6 };
  const [low, high] = [windowNow.low, windowNow.high].map((v) => v.toLocaleString("en-US", digits));
  one("#window-words").textContent = `${low} to ${high}${invert.checked ? ", inverted" : ""}`;
}

async function readHistogram(): Promise<void> {
  const asked = item;
  const answer = await fetch(asked.histogram, { credentials: "same-origin" });
  if (answer.ok && asked === item) contrast.setHistogram((await answer.json()) as Histogram);
}

/** The grey values under the pointer, read once the picture is there anyway. */
async function readValues(): Promise<void> {
  if (item.colour) return; // one number would not say what is there
  const asked = raster;
  const found = await readBytes(asked.url, item.width);
  if (asked === raster) values = found;
}

// --- what is written around the image ---------------------------------------------------------------------------

function moved(): void {
  overlay.draw();
  const zoom = 100 * stage.zoom;
  one("#zoom").textContent = `${zoom >= 10 ? whole(zoom) : zoom.toFixed(1)} %`;
  drawBar();
  readOut();
  say();
}

function drawBar(): void {
  const box = one("#scale-bar");
  box.hidden = !barWanted || !item.pixelSize;
  if (box.hidden) return;
  drawScaleBar(box, scaleBar(item.pixelSize!, stage.placement.scale));
}

function readOut(): void {
  const at = pointer && stage.pixelAt(pointer.left, pointer.top);
  const line = one("#readout");
  line.hidden = !at;
  if (!at) return;
  line.textContent = readoutOf(at, item, raster, values);
}

/** Writes the view into the address, at most once in a while: browsers refuse more. */
let saying = 0;
function say(): void {
  clearTimeout(saying);
  saying = setTimeout(sayNow, 200);
}

function sayNow(): void {
  clearTimeout(saying);
  history.replaceState(null, "", `${addressOf(item.id)}?${written(query, state())}`);
  for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-carry]")) carry(link);
}

function state(): Parameters<typeof written>[1] {
  const shown = { ...slide.layers.shown, inverted: invert.checked !== isTurned(item), view: stage.view };
  return isChanged() ? { ...shown, window: windowNow } : shown;
}

/** Whether the reader has chosen a window. */
function isChanged(): boolean {
  const own = ownWindow(item);
  return windowNow.low !== own.low || windowNow.high !== own.high;
}

/** The next image opens as this one is seen: same layers, same place, same window. */
function carry(link: HTMLAnchorElement): void {
  const { pathname, searchParams } = new URL(link.href);
  const { prediction: _prediction, cam: _cam, colour: _colour, window, ...kept } = state();
  const shown = window && scope.value === "dataset" ? { ...kept, window } : kept;
  link.href = `${pathname}?${written(searchParams, shown)}`;
}

// --- from image to image ----------------------------------------------------------------------------------------

const slides = new Slides(stage, (id) => `${addressOf(id)}?${withoutView(query)}`, layersOf);
const order = new Order(first, saySlice);
const stepper = new Stepper(() => item.id, turnTo, rested);
const slider = one<HTMLInputElement>("#slice");
/** What the reader is likely to want next. */
let likely = (by: number): number | null => order.item(item.id, by);

/** How another item is drawn in what the reader has chosen. */
function frameOf(next: Item): Frame & { window: Window } {
  const window = isChanged() && scope.value === "dataset" ? windowNow : ownWindow(next);
  const drawn = rasterOf(next, window);
  const inverted = (invert.checked !== isTurned(item)) !== isTurned(next);
  return { window, size: next, tiles: next.tiles, raster: drawn, table: tableFor(drawn, window, inverted) };
}

/** Says so where something takes longer than a blink: the first look at a very large image does. */
async function waited(work: Promise<void>): Promise<void> {
  const late = setTimeout(() => (one("#stage-wait").hidden = false), 400);
  try {
    await work;
  } finally {
    clearTimeout(late);
    one("#stage-wait").hidden = true;
  }
}

async function turnTo(id: number): Promise<void> {
  try {
    await waited(bring(id));
  } catch {
    // The page itself says what is wrong, or asks who is there.
    location.assign(`${addressOf(id)}?${written(query, state())}`);
    await new Promise(() => undefined);
  }
}

async function bring(id: number): Promise<void> {
  await stage.ready;
  // Of the same stack it is most likely drawn in the same window: its picture need not wait for its page.
  if (!item.tiles && order.stackOf(item.id).includes(id)) {
    new Image().src = raster.url.replace(item.image, item.image.replace(/\d+/, String(id)));
  }
  const next = await slides.get(id);
  await next.layers.follow(slide.layers.chosen);
  let frame = frameOf(next.item);
  let picture = await next.picture(stage, frame);
  await stage.whole(picture);
  // What the reader did meanwhile counts, so everything is looked at once more; mostly it is all there.
  frame = frameOf(next.item);
  picture = await next.picture(stage, frame);
  await Promise.all([stage.whole(picture), next.layers.follow(slide.layers.chosen)]);
  await stage.dress(picture, frame.table);
  show(next, picture, frame);
}

function show(next: Slide, picture: Picture, frame: Frame & { window: Window }): void {
  const inverted = invert.checked !== isTurned(item);
  takeParts(next);
  item = next.item;
  slide = next;
  raster = frame.raster;
  windowNow = frame.window;
  values = null;
  invert.checked = inverted !== isTurned(item);
  stage.swap(picture);
  trouble("");
  contrast.follow(windowNow, !item.dtype.startsWith("float"));
  sayWindow();
  order.meet(item);
  saySlice();
  drawLayers();
  moved();
  slides.tidy(slide);
  clearTimeout(finer);
  clearTimeout(settling);
  settling = setTimeout(settle, 150);
}

/** Parts of the page that tell of the item. Those of the one before are kept with it. */
function takeParts(next: Slide): void {
  const focus = document.activeElement;
  const names = ["rel", "data-slice"].filter((name) => focus?.hasAttribute(name));
  for (const [name, part] of next.parts) slide.parts.get(name)?.replaceWith(part);
  for (const name of names) document.querySelector<HTMLElement>(`[${name}="${focus!.getAttribute(name)}"]`)?.focus();
  document.title = next.title;
  one("#stage").setAttribute("aria-label", `Micrograph ${next.item.name}: arrows move it, plus and minus zoom`);
}

/** Where the slice stands in its stack. */
function saySlice(): void {
  const stack = order.stackOf(item.id);
  one("#slices").hidden = !item.stacked;
  slider.disabled = stack.length < 2;
  if (slider.disabled) return;
  slider.max = String(stack.length);
  if (stepper.resting || stepper.target === item.id) slider.value = String(stack.indexOf(item.id) + 1);
  const words = `${whole(stack.indexOf(item.id) + 1)} of ${whole(stack.length)}`;
  one("#slice-words").textContent = words;
  slider.setAttribute("aria-valuetext", words);
}

/** Once nobody steps any more: what only the image that stays is worth. */
function settle(): void {
  // Without them there is no number under the pointer and no Auto; that the link is lost, the image itself says.
  readHistogram().catch(() => undefined);
  readValues().catch(() => undefined);
}

function rested(): void {
  sayNow();
  saySlice();
  void order.know(item.id, `${item.around}?${withoutView(query)}`, item.stacked);
  void prefetch();
}

/** The next in the direction of the last step, and the one before. */
async function prefetch(): Promise<void> {
  for (const id of new Set([1, 2, -1].map((by) => likely(by)))) {
    if (id === null || id === item.id || !stepper.resting) continue;
    try {
      const next = await slides.get(id);
      await next.layers.follow(slide.layers.chosen);
      if (canWait(next.item, item) && stepper.resting) await next.picture(stage, frameOf(next.item));
    } catch {
      return; // If it is wanted, the reader is told.
    }
  }
}

function stepBy(by: number): void {
  const sign = Math.sign(by);
  likely = (places) => order.item(item.id, sign * places);
  stepper.to(order.item(stepper.target, by));
}

function sliceBy(by: number): void {
  const sign = Math.sign(by);
  likely = (places) => order.slice(item.id, sign * places);
  const beside = item[by > 0 ? "sliceAfter" : "sliceBefore"];
  stepper.to(order.slice(stepper.target, by) ?? (stepper.resting ? beside : null));
}

slider.addEventListener("input", () => {
  const stack = order.stackOf(item.id);
  likely = (places) => order.slice(item.id, places);
  stepper.to(stack[Number(slider.value) - 1] ?? null);
});

// The arrows are links, for those who open them beside this page and for browsers without scripts.
document.addEventListener("click", (event) => {
  const link = (event.target as HTMLElement).closest<HTMLAnchorElement>("a[data-carry]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const by = link.rel === "next" || link.dataset["slice"] === "after" ? 1 : -1;
  if (link.dataset["slice"]) sliceBy(by);
  else stepBy(by);
});

bindShiftWheel(one("#stage"), () => item.stacked, sliceBy);

// --- hands ------------------------------------------------------------------------------------------------------

const acts: Record<string, () => void> = {
  fit: () => stage.fit(),
  real: () => stage.zoomTo(1),
  larger: () => stage.step(1),
  smaller: () => stage.step(-1),
  copy: () => void copyView(),
  save: () => void savePicture(),
};
for (const [name, act] of Object.entries(acts)) {
  for (const button of document.querySelectorAll(`button[data-act="${name}"]`)) button.addEventListener("click", act);
}
invert.addEventListener("change", () => {
  applyWindow();
  say();
});
scope.addEventListener("change", say);

async function copyView(): Promise<void> {
  const address = `${location.origin}${addressOf(item.id)}?${written(query, state())}`;
  history.replaceState(null, "", address);
  await copyAddress(address, one<HTMLButtonElement>('[data-act="copy"]'));
}

async function savePicture(): Promise<void> {
  const bar = item.pixelSize && barWanted ? scaleBar(item.pixelSize, stage.placement.scale) : null;
  const caption = `${item.name} · ${one("#window-words").textContent ?? ""} · ${one("#zoom").textContent ?? ""}`;
  const blob = await pictureOf(stage.viewer.drawer.canvas as HTMLCanvasElement, overlay.canvas, caption, bar);
  saveAs(blob, `${item.name.replaceAll("/", "_").replace(/\.\w+$/, "")}-view.png`);
}

bindKeys({
  "1": () => slide.layers.toggle("mask"),
  "2": () => slide.layers.toggle("prediction"),
  "3": () => slide.layers.toggle("errors"),
  "4": () => slide.layers.toggle("cam"),
  "5": () => slide.layers.toggle("colour"),
  "[": () => slide.layers.fade(-10),
  "]": () => slide.layers.fade(10),
  c: () => contrast.auto(),
  i: () => invert.click(),
  b: () => {
    barWanted = !barWanted;
    localStorage.setItem("scale-bar", barWanted ? "on" : "off");
    drawBar();
  },
  "0": acts["fit"]!,
  z: acts["real"]!,
  "+": acts["larger"]!,
  "=": acts["larger"]!,
  "-": acts["smaller"]!,
  j: () => stepBy(1),
  k: () => stepBy(-1),
  ",": () => sliceBy(-1),
  ".": () => sliceBy(1),
  " ": () => bare(true),
});
document.addEventListener("keyup", (event) => {
  if (event.key === " ") bare(false);
});
window.addEventListener("blur", () => bare(false));

function bare(hidden: boolean): void {
  if (overlay.hidden === hidden) return;
  overlay.hidden = hidden;
  overlay.draw();
}

const surface = one("#stage");
surface.addEventListener("pointermove", (event) => {
  const box = surface.getBoundingClientRect();
  pointer = { left: event.clientX - box.left, top: event.clientY - box.top };
  readOut();
});
surface.addEventListener("pointerleave", () => {
  pointer = null;
  readOut();
});
onThemeChange(() => contrast.redraw());

// --- begin ------------------------------------------------------------------------------------------------------

slides.keep(slide);
sayWindow();
if (!isEightBit(item) && start.window) void fetchWindow(start.window);
void slide.layers.follow(start);
void stage.ready.then((there) => {
  slide.has(stage.picture);
  if (start.view) stage.look(start.view, true);
  moved();
  drawLayers();
  if (!there) return;
  rested();
  void waited(stage.whole(stage.picture!));
});
settle();
