// The viewer of one item: micrograph, layers, contrast, scale bar, read-out, keys.
import "./viewer.css";
import { bindKeys } from "./keys";
import { whole } from "./numbers";
import { readAddress, written } from "./viewer/address";
import { readBytes, type ByteMap } from "./viewer/classmap";
import { ContrastPanel, tableFor, type Histogram, type Window } from "./viewer/contrast";
import { Layers, type LayerData } from "./viewer/layers";
import { Overlay } from "./viewer/overlay";
import { picture } from "./viewer/picture";
import { scaleBar } from "./viewer/scalebar";
import { Stage, type Raster, type Tiles } from "./viewer/stage";
import { onThemeChange } from "./colours";

interface Item extends LayerData {
  id: number;
  name: string;
  width: number;
  height: number;
  dtype: string;
  low: number;
  high: number;
  pixelSize: number | null;
  colour: boolean;
  image: string;
  longest: number;
  tiles: Tiles | null;
  histogram: string;
}

const item = JSON.parse(document.querySelector("#viewer-data")!.textContent!) as Item;
const one = <E extends HTMLElement>(selector: string): E => document.querySelector<E>(selector)!;
const query = new URLSearchParams(location.search);
const start = readAddress(query);
const isWhole = !item.dtype.startsWith("float");
const eightBit = item.dtype === "uint8";
const scope = one<HTMLSelectElement>('[data-act="scope"]');
const invert = one<HTMLInputElement>('[data-act="invert"]');
// An item whose window is stored the other way round is a negative: dark means much.
const turned = item.low > item.high;
const own: Window = { low: Math.min(item.low, item.high), high: Math.max(item.low, item.high) };

let raster: Raster = rasterOf(own);
let windowNow: Window = start.window ?? own;
let values: ByteMap | null = null;
invert.checked = start.inverted !== turned;
let barWanted = localStorage.getItem("scale-bar") !== "off";
let pointer: { left: number; top: number } | null = null;
let finer = 0;

function rasterOf(window: Window): Raster {
  const asked = new URLSearchParams({ low: String(window.low), high: String(window.high) });
  if (Math.max(item.width, item.height) > item.longest) asked.set("max", String(item.longest));
  return { url: `${item.image}?${asked}`, ...window };
}

const stage = new Stage(one("#stage"), item, item.tiles, raster, { moved, failed: () => trouble("The image could not be read. Reload the page.") });
const overlay = new Overlay(one("#stage"), () => stage.placement);
const layers = new Layers(one("#panels"), item, start, { changed: drawLayers, failed: trouble });
const contrast = new ContrastPanel(one("#contrast"), windowNow, isWhole, setWindow);

function trouble(sentence: string): void {
  const notice = one("#stage-notice");
  notice.textContent = sentence;
  notice.hidden = false;
}

function drawLayers(): void {
  overlay.set(layers.drawn);
  layers.paintBar();
  const warning = one("#cam-warning");
  warning.hidden = !layers.warning;
  warning.querySelector("span")!.textContent = layers.warning;
  say();
}

// --- contrast ---------------------------------------------------------------------------------------------------

function setWindow(window: Window): void {
  windowNow = window;
  applyWindow();
  // Eight bits hold all that an 8-bit image has. Of a deeper one the server draws the new window from the source.
  clearTimeout(finer);
  if (!eightBit) finer = setTimeout(() => void fetchWindow(window), 250);
  say();
}

async function fetchWindow(window: Window): Promise<void> {
  const next = rasterOf(window);
  if (!(await stage.show(next)) || windowNow !== window) return;
  raster = next;
  values = null;
  applyWindow();
  void readValues();
}

function applyWindow(): void {
  stage.setTable(tableFor(raster, windowNow, invert.checked));
  const digits = { maximumSignificantDigits: 6 };
  const [low, high] = [windowNow.low, windowNow.high].map((v) => v.toLocaleString("en-US", digits));
  one("#window-words").textContent = `${low} to ${high}${invert.checked ? ", inverted" : ""}`;
}

async function readHistogram(): Promise<void> {
  const answer = await fetch(item.histogram, { credentials: "same-origin" });
  if (answer.ok) contrast.setHistogram((await answer.json()) as Histogram);
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
  const bar = scaleBar(item.pixelSize!, stage.placement.scale);
  const svg = box.querySelector("svg")!;
  svg.setAttribute("width", String(Math.round(bar.width)));
  svg.querySelector("rect")!.setAttribute("width", String(Math.round(bar.width)));
  box.querySelector("span")!.textContent = bar.label;
}

function readOut(): void {
  const at = pointer && stage.pixelAt(pointer.left, pointer.top);
  const line = one("#readout");
  line.hidden = !at;
  if (!at) return;
  const parts = [`x ${whole(at.x)} y ${whole(at.y)}`];
  const byte = values?.values[Math.floor(at.y / values.factor) * values.width + Math.floor(at.x / values.factor)];
  if (byte !== undefined) {
    const value = raster.low + (byte / 255) * (raster.high - raster.low);
    const exact = eightBit && raster.low === 0 && raster.high === 255 && values!.factor === 1;
    const edge = !exact && (byte === 0 ? "≤ " : byte === 255 ? "≥ " : "≈ ");
    parts.push(`${edge || ""}${value.toLocaleString("en-US", { maximumSignificantDigits: exact ? 3 : 4 })}`);
  }
  line.textContent = parts.join(" · ");
}

/** Writes the view into the address, at most once in a while: browsers refuse more. */
let saying = 0;
function say(): void {
  clearTimeout(saying);
  saying = setTimeout(() => {
    const next = written(query, state());
    history.replaceState(null, "", `?${next}`);
    for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-carry]")) carry(link);
  }, 200);
}

function state(): Parameters<typeof written>[1] {
  const changed = windowNow.low !== own.low || windowNow.high !== own.high;
  const shown = { ...layers.shown, inverted: invert.checked !== turned, view: stage.view };
  return changed ? { ...shown, window: windowNow } : shown;
}

/** The next image opens as this one is seen: same layers, same place, same window. */
function carry(link: HTMLAnchorElement): void {
  const { pathname, searchParams } = new URL(link.href);
  const { prediction: _prediction, cam: _cam, window, ...kept } = state();
  const shown = window && scope.value === "dataset" ? { ...kept, window } : kept;
  link.href = `${pathname}?${written(searchParams, shown)}`;
}

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
  const button = one<HTMLButtonElement>('[data-act="copy"]');
  const address = `${location.origin}${location.pathname}?${written(query, state())}`;
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = "Copied";
  } catch {
    // Outside https and loopback there is no clipboard; the address bar holds the same.
    button.textContent = "It is in the address bar";
  }
  setTimeout(() => (button.textContent = "Copy view"), 2000);
}

async function savePicture(): Promise<void> {
  const bar = item.pixelSize && barWanted ? scaleBar(item.pixelSize, stage.placement.scale) : null;
  const caption = `${item.name} · ${one("#window-words").textContent ?? ""} · ${one("#zoom").textContent ?? ""}`;
  const blob = await picture(stage.viewer.drawer.canvas as HTMLCanvasElement, overlay.canvas, caption, bar);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${item.name.replaceAll("/", "_").replace(/\.\w+$/, "")}-view.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}

const follow = (selector: string) => (): void => one<HTMLAnchorElement>(selector)?.click();
bindKeys({
  "1": () => layers.toggle("mask"),
  "2": () => layers.toggle("prediction"),
  "3": () => layers.toggle("errors"),
  "4": () => layers.toggle("cam"),
  "[": () => layers.fade(-10),
  "]": () => layers.fade(10),
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
  j: follow("a[rel=next]"),
  k: follow("a[rel=prev]"),
  ",": follow('[data-slice="before"]'),
  ".": follow('[data-slice="after"]'),
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

applyWindow();
if (!eightBit && start.window) void fetchWindow(start.window);
void stage.ready.then(() => {
  if (start.view) stage.look(start.view, true);
  moved();
  drawLayers();
});
void readHistogram();
void readValues();
