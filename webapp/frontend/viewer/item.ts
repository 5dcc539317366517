// One item as the server describes it, and the addresses of its pictures.
import type { Window } from "./contrast";
import type { LayerData } from "./layers";
import type { Raster, Tiles } from "./canvas";

export interface Item extends LayerData {
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
  /** Of the items before and after it. */
  before: number | null;
  after: number | null;
  /** Of the slices beside it, if it is one of several of a stack. */
  sliceBefore: number | null;
  sliceAfter: number | null;
  stacked: boolean;
  /** Where the items around it are listed. */
  around: string;
}

export function itemOf(page: Document): Item {
  return JSON.parse(page.querySelector("#viewer-data")!.textContent!) as Item;
}

/** The page of another item of the same dataset. */
export function addressOf(id: number): string {
  return location.pathname.replace(/\d+\/$/, `${id}/`);
}

/** An item whose window is stored the other way round is a negative: dark means much. */
export function isInverted(item: Item): boolean {
  return item.low > item.high;
}

export function defaultWindow(item: Item): Window {
  return { low: Math.min(item.low, item.high), high: Math.max(item.low, item.high) };
}

export function isEightBit(item: Item): boolean {
  return item.dtype === "uint8";
}

/** The picture of `item` in `window`; eight bits hold all that an 8-bit image has, so of it there is one. */
export function rasterOf(item: Item, window: Window): Raster {
  const drawn = isEightBit(item) ? defaultWindow(item) : window;
  const asked = new URLSearchParams({ low: String(drawn.low), high: String(drawn.high) });
  if (Math.max(item.width, item.height) > item.longest) asked.set("max", String(item.longest));
  return { url: `${item.image}?${asked}`, ...drawn };
}
