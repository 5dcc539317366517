// The page of one item: micrograph, layers, contrast, scale bar, read-out, keys.
//
// Other items take its place without loading a page; the picture that is shown stays until theirs is complete.
import "./styles/viewer.css";
import { bindKeys } from "./shared/keys";
import { integerText } from "./shared/numbers";
import { AddressBar, readAddress, withoutView, withView } from "./viewer/permalink";
import { ContrastPanel, tableFor, type Histogram, type Window } from "./viewer/contrast";
import { addressOf, defaultWindow, isEightBit, isInverted, itemOf, rasterOf, type Item } from "./viewer/item";
import { Layers } from "./viewer/layers";
import { Order } from "./viewer/neighbours";
import { Overlay } from "./viewer/overlay";
import { copyAddress, picture as pictureOf, saveAs } from "./viewer/screenshot";
import { Readout } from "./viewer/readout";
import { ScaleBar } from "./viewer/scalebar";
import { canKeepPicture, Slide, Slides } from "./viewer/prefetch";
import { Stage, type Frame, type Picture, type Raster } from "./viewer/canvas";
import { Stepper } from "./viewer/stepper";
import { bindShiftWheel, SliceSlider } from "./viewer/slice_slider";
import { onThemeChange } from "./shared/theme_colours";

const find = <E extends HTMLElement>(selector: string): E => document.querySelector<E>(selector)!;
const query = new URLSearchParams(location.search);
const start = readAddress(query);
const scope = find<HTMLSelectElement>('[data-act="scope"]');
const invert = find<HTMLInputElement>('[data-act="invert"]');
const first = itemOf(document);

/** What is shown now. */
let item: Item = first;
let windowNow: Window = start.window ?? defaultWindow(first);
let raster: Raster = rasterOf(first, defaultWindow(first));
invert.checked = start.inverted !== isInverted(first);
let windowTimer = 0;
let detailsTimer = 0;

const tableNow = (): Uint8ClampedArray => tableFor(raster, windowNow, invert.checked);
const stage = new Stage(
  find("#stage"),
  { size: first, tiles: first.tiles, raster, table: tableNow() },
  { moved: viewChanged, failed: () => showProblem("The image could not be read. Reload the page.") },
);
const overlay = new Overlay(find("#stage"), () => stage.placement);
const contrast = new ContrastPanel(find("#contrast"), windowNow, !first.dtype.startsWith("float"), setWindow);
const readout = new Readout(stage, find("#readout"), () => ({ item, raster }));
const scaleBar = new ScaleBar(find("#scale-bar"));
const addressBar = new AddressBar(() => addressInView(item.id), linkAddress);
let slide = new Slide(first, document, layersOf(document, first));

function layersOf(page: Document, of: Item): Layers {
  return new Layers(page.querySelector("#layers")!, of, {
    changed: (layers) => void (layers === slide.layers && drawLayers()),
    failed: (sentence, layers) => void (layers === slide.layers && showProblem(sentence)),
  });
}

function showProblem(sentence: string): void {
  const notice = find("#stage-notice");
  notice.textContent = sentence;
  notice.hidden = !sentence;
}

function drawLayers(): void {
  overlay.set(slide.layers.drawn);
  slide.layers.paintBar();
  const warning = find("#cam-warning");
  warning.hidden = !slide.layers.warning;
  warning.querySelector("span")!.textContent = slide.layers.warning;
  addressBar.updateSoon();
}

// --- contrast ---------------------------------------------------------------------------------------------------

function setWindow(window: Window): void {
  windowNow = window;
  applyWindow();
  // Eight bits hold all that an 8-bit image has. Of a deeper one the server draws the new window from the source.
  clearTimeout(windowTimer);
  if (!isEightBit(item)) windowTimer = setTimeout(() => void fetchWindow(window), 250);
  addressBar.updateSoon();
}

async function fetchWindow(window: Window): Promise<void> {
  const next = rasterOf(item, window);
  const shown = slide;
  if (!(await stage.show(next, tableFor(next, window, invert.checked)))) return;
  shown.release(stage);
  shown.setPicture(stage.picture);
  if (windowNow !== window) return;
  raster = next;
  readout.clear();
  applyWindow();
  readout.load().catch(() => undefined);
}

function applyWindow(): void {
  stage.setTable(tableNow());
  showWindowText();
}

function showWindowText(): void {
  const digits = { maximumSignificantDigits: 6 };
  const [low, high] = [windowNow.low, windowNow.high].map((v) => v.toLocaleString("en-US", digits));
  find("#window-words").textContent = `${low} to ${high}${invert.checked ? ", inverted" : ""}`;
}

async function readHistogram(): Promise<void> {
  const asked = item;
  const answer = await fetch(asked.histogram, { credentials: "same-origin" });
  if (answer.ok && asked === item) contrast.setHistogram((await answer.json()) as Histogram);
}

// --- what is written around the image ---------------------------------------------------------------------------

function viewChanged(): void {
  overlay.draw();
  const zoom = 100 * stage.zoom;
  find("#zoom").textContent = `${zoom >= 10 ? integerText(zoom) : zoom.toFixed(1)} %`;
  scaleBar.draw(item.pixelSize, stage.placement.scale);
  readout.update();
  addressBar.updateSoon();
}

/** The address of an item, to be seen as this one is. */
function addressInView(id: number): string {
  return `${addressOf(id)}?${withView(query, state())}`;
}

function state(): Parameters<typeof withView>[1] {
  const shown = { ...slide.layers.shown, inverted: invert.checked !== isInverted(item), view: stage.view };
  return isWindowChosen() ? { ...shown, window: windowNow } : shown;
}

/** Whether the reader has chosen a window. */
function isWindowChosen(): boolean {
  const own = defaultWindow(item);
  return windowNow.low !== own.low || windowNow.high !== own.high;
}

/** The next image opens as this one is seen: same layers, same place, same window. */
function linkAddress({ pathname, searchParams }: URL): string {
  const { prediction: _prediction, cam: _cam, colour: _colour, window, ...kept } = state();
  const view = window && scope.value === "dataset" ? { ...kept, window } : kept;
  return `${pathname}?${withView(searchParams, view)}`;
}

// --- from image to image ----------------------------------------------------------------------------------------

const slides = new Slides(stage, (id) => `${addressOf(id)}?${withoutView(query)}`, layersOf);
const order = new Order(first, showSlice);
const stepper = new Stepper(() => item.id, goTo, finishStep);
const sliceSlider = new SliceSlider(showSliceAt);
/** The item that the reader is likely to want next. */
let nextItem = (by: number): number | null => order.item(item.id, by);

/** How another item is drawn in what the reader has chosen. */
function frameOf(next: Item): Frame & { window: Window } {
  const window = isWindowChosen() && scope.value === "dataset" ? windowNow : defaultWindow(next);
  const drawn = rasterOf(next, window);
  const inverted = (invert.checked !== isInverted(item)) !== isInverted(next);
  return { window, size: next, tiles: next.tiles, raster: drawn, table: tableFor(drawn, window, inverted) };
}

/** Shows a notice while `work` takes longer than a moment, as the first picture of a very large image does. */
async function withWaitNotice(work: Promise<void>): Promise<void> {
  const late = setTimeout(() => (find("#stage-wait").hidden = false), 400);
  try {
    await work;
  } finally {
    clearTimeout(late);
    find("#stage-wait").hidden = true;
  }
}

async function goTo(id: number): Promise<void> {
  try {
    await withWaitNotice(loadItem(id));
  } catch {
    // The page itself shows the error, or the sign-in form.
    location.assign(addressInView(id));
    await new Promise(() => undefined);
  }
}

async function loadItem(id: number): Promise<void> {
  await stage.ready;
  // Of the same stack it is most likely drawn in the same window: its picture need not wait for its page.
  if (!item.tiles && order.stackOf(item.id).includes(id)) {
    new Image().src = raster.url.replace(item.image, item.image.replace(/\d+/, String(id)));
  }
  const next = await slides.get(id);
  await next.layers.apply(slide.layers.chosen);
  let frame = frameOf(next.item);
  let picture = await next.picture(stage, frame);
  await stage.loaded(picture);
  // What the reader did meanwhile counts, so everything is checked once more; mostly it is all loaded.
  frame = frameOf(next.item);
  picture = await next.picture(stage, frame);
  await Promise.all([stage.loaded(picture), next.layers.apply(slide.layers.chosen)]);
  await stage.recolour(picture, frame.table);
  show(next, picture, frame);
}

function show(next: Slide, picture: Picture, frame: Frame & { window: Window }): void {
  const inverted = invert.checked !== isInverted(item);
  replaceParts(next);
  item = next.item;
  slide = next;
  raster = frame.raster;
  windowNow = frame.window;
  readout.clear();
  invert.checked = inverted !== isInverted(item);
  stage.swap(picture);
  showProblem("");
  contrast.setItem(windowNow, !item.dtype.startsWith("float"));
  showWindowText();
  order.add(item);
  showSlice();
  drawLayers();
  viewChanged();
  slides.dropUnused(slide);
  clearTimeout(windowTimer);
  clearTimeout(detailsTimer);
  detailsTimer = setTimeout(loadDetails, 150);
}

/** Exchanges the parts of the page that describe the item. Those of the one before are kept with it. */
function replaceParts(next: Slide): void {
  const focus = document.activeElement;
  const names = ["rel", "data-slice"].filter((name) => focus?.hasAttribute(name));
  for (const [name, part] of next.parts) slide.parts.get(name)?.replaceWith(part);
  for (const name of names) document.querySelector<HTMLElement>(`[${name}="${focus!.getAttribute(name)}"]`)?.focus();
  document.title = next.title;
  find("#stage").setAttribute("aria-label", `Micrograph ${next.item.name}: arrows move it, plus and minus zoom`);
}

/** Where the slice stands in its stack. */
function showSlice(): void {
  const moveHandle = stepper.resting || stepper.target === item.id;
  sliceSlider.show(item.id, order.stackOf(item.id), { stacked: item.stacked, moveHandle });
}

/** Loaded only for an item that stays: not while the reader steps through many. */
function loadDetails(): void {
  // Without them there is no number under the pointer and no Auto; a lost connection shows in the image itself.
  readHistogram().catch(() => undefined);
  readout.load().catch(() => undefined);
}

function finishStep(): void {
  addressBar.update();
  showSlice();
  void order.load(item.id, `${item.around}?${withoutView(query)}`, item.stacked);
  void prefetch();
}

/** The next in the direction of the last step, and the one before. */
async function prefetch(): Promise<void> {
  for (const id of new Set([1, 2, -1].map((by) => nextItem(by)))) {
    if (id === null || id === item.id || !stepper.resting) continue;
    try {
      const next = await slides.get(id);
      await next.layers.apply(slide.layers.chosen);
      if (canKeepPicture(next.item, item) && stepper.resting) await next.picture(stage, frameOf(next.item));
    } catch {
      return; // If the reader goes there, the error is shown then.
    }
  }
}

function stepBy(by: number): void {
  const sign = Math.sign(by);
  nextItem = (places) => order.item(item.id, sign * places);
  stepper.goTo(order.item(stepper.target, by));
}

function sliceBy(by: number): void {
  const sign = Math.sign(by);
  nextItem = (places) => order.slice(item.id, sign * places);
  const beside = item[by > 0 ? "sliceAfter" : "sliceBefore"];
  stepper.goTo(order.slice(stepper.target, by) ?? (stepper.resting ? beside : null));
}

function showSliceAt(index: number): void {
  nextItem = (places) => order.slice(item.id, places);
  stepper.goTo(order.stackOf(item.id)[index] ?? null);
}

// The arrows are links, for those who open them beside this page and for browsers without scripts.
document.addEventListener("click", (event) => {
  const link = (event.target as HTMLElement).closest<HTMLAnchorElement>("a[data-carry]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const by = link.rel === "next" || link.dataset["slice"] === "after" ? 1 : -1;
  if (link.dataset["slice"]) sliceBy(by);
  else stepBy(by);
});

bindShiftWheel(find("#stage"), () => item.stacked, sliceBy);

// --- buttons and keys -----------------------------------------------------------------------------------------------

const actions: Record<string, () => void> = {
  fit: () => stage.fit(),
  real: () => stage.zoomTo(1),
  larger: () => stage.step(1),
  smaller: () => stage.step(-1),
  copy: () => void copyView(),
  save: () => void savePicture(),
};
for (const [name, act] of Object.entries(actions)) {
  for (const button of document.querySelectorAll(`button[data-act="${name}"]`)) button.addEventListener("click", act);
}
invert.addEventListener("change", () => {
  applyWindow();
  addressBar.updateSoon();
});
scope.addEventListener("change", () => addressBar.updateSoon());

async function copyView(): Promise<void> {
  const address = `${location.origin}${addressInView(item.id)}`;
  history.replaceState(null, "", address);
  await copyAddress(address, find<HTMLButtonElement>('[data-act="copy"]'));
}

async function savePicture(): Promise<void> {
  const bar = scaleBar.bar(item.pixelSize, stage.placement.scale);
  const caption = `${item.name} · ${find("#window-words").textContent ?? ""} · ${find("#zoom").textContent ?? ""}`;
  const blob = await pictureOf(stage.viewer.drawer.canvas as HTMLCanvasElement, overlay.canvas, caption, bar);
  saveAs(blob, `${item.name.replaceAll("/", "_").replace(/\.\w+$/, "")}-view.png`);
}

bindKeys({
  "1": () => slide.layers.toggle("mask"),
  "2": () => slide.layers.toggle("prediction"),
  "3": () => slide.layers.toggle("errors"),
  "4": () => slide.layers.toggle("cam"),
  "5": () => slide.layers.toggle("colour"),
  "[": () => slide.layers.changeOpacity(-10),
  "]": () => slide.layers.changeOpacity(10),
  c: () => contrast.auto(),
  i: () => invert.click(),
  b: () => {
    scaleBar.toggle();
    scaleBar.draw(item.pixelSize, stage.placement.scale);
  },
  "0": actions["fit"]!,
  z: actions["real"]!,
  "+": actions["larger"]!,
  "=": actions["larger"]!,
  "-": actions["smaller"]!,
  j: () => stepBy(1),
  k: () => stepBy(-1),
  ",": () => sliceBy(-1),
  ".": () => sliceBy(1),
  " ": () => hideOverlay(true),
});
document.addEventListener("keyup", (event) => {
  if (event.key === " ") hideOverlay(false);
});
window.addEventListener("blur", () => hideOverlay(false));

function hideOverlay(hidden: boolean): void {
  if (overlay.hidden === hidden) return;
  overlay.hidden = hidden;
  overlay.draw();
}

onThemeChange(() => contrast.redraw());

// --- start ----------------------------------------------------------------------------------------------------------

slides.keep(slide);
showWindowText();
if (!isEightBit(item) && start.window) void fetchWindow(start.window);
void slide.layers.apply(start);
void stage.ready.then((loaded) => {
  slide.setPicture(stage.picture);
  if (start.view) stage.moveTo(start.view, true);
  viewChanged();
  drawLayers();
  if (!loaded) return;
  finishStep();
  void withWaitNotice(stage.loaded(stage.picture!));
});
loadDetails();
