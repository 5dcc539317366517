// Masks, predictions and maps as numbers: one byte per pixel, never averaged.

export interface ByteMap {
  width: number;
  height: number;
  values: Uint8Array;
  /** Pixels of the item, along each side, that one value stands for: above 1 where the item is too large for a browser. */
  factor: number;
}

/**
 * Decodes an 8-bit picture without colour management; one byte per pixel, from its first channel. `full` is the item's
 * width.
 */
export async function readBytes(url: string, full: number): Promise<ByteMap> {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  const options: ImageBitmapOptions = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(await answer.blob(), options);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height);
  for (let at = 0; at < values.length; at += 1) values[at] = data[4 * at]!;
  return { width, height, values, factor: Math.max(1, Math.ceil(full / width)) };
}

export async function readPicture(url: string): Promise<ImageBitmap> {
  const answer = await fetch(url, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return createImageBitmap(await answer.blob());
}

/** Every value replaced by `values[value]`: a prediction counts its classes, a mask names them by its own numbers. */
export function renumbered(map: ByteMap, values: readonly number[]): ByteMap {
  const table = Uint8Array.from({ length: 256 }, (_, index) => values[index] ?? 0);
  return { ...map, values: map.values.map((value) => table[value]!) };
}

/** The values that occur, without the background. */
export function classesIn(map: ByteMap): number[] {
  const seen = new Uint8Array(256);
  for (const value of map.values) seen[value] = 1;
  return [...seen.keys()].filter((value) => value && seen[value]);
}

/** Every `factor`-th value of `map` along each side. */
export function thinned(map: ByteMap, factor: number): ByteMap {
  if (factor <= 1) return map;
  const [width, height] = [Math.ceil(map.width / factor), Math.ceil(map.height / factor)];
  const values = new Uint8Array(width * height);
  for (let at = 0; at < values.length; at += 1) {
    values[at] = map.values[Math.floor(at / width) * factor * map.width + (at % width) * factor]!;
  }
  return { width, height, values, factor: map.factor * factor };
}

/** Where prediction and mask differ: `missed` is in the mask only, `invented` in the prediction only, as 0 and 1. */
export function errorsBetween(mask: ByteMap, prediction: ByteMap): { missed: ByteMap; invented: ByteMap } {
  const missed = new Uint8Array(mask.values.length);
  const invented = new Uint8Array(mask.values.length);
  mask.values.forEach((truth, at) => {
    const predicted = prediction.values[at]!;
    if (truth === predicted) return;
    if (truth) missed[at] = 1;
    if (predicted) invented[at] = 1;
  });
  return { missed: { ...mask, values: missed }, invented: { ...mask, values: invented } };
}

/**
 * The border of all pixels for which `inside` holds, along the edges of pixels, in image coordinates. Runs of edges are one
 * line each, so a mask of a million pixels strokes in milliseconds at any zoom.
 */
export function border(map: ByteMap, inside: (value: number) => boolean): Path2D {
  const { width, height, values } = map;
  const member = Uint8Array.from({ length: 256 }, (_, value) => (inside(value) ? 1 : 0));
  const path = new Path2D();
  const at = (x: number, y: number): number =>
    x < 0 || y < 0 || x >= width || y >= height ? 0 : member[values[y * width + x]!]!;
  for (let y = 0; y <= height; y += 1) {
    let start = -1;
    for (let x = 0; x <= width; x += 1) {
      const edge = x < width && at(x, y - 1) !== at(x, y);
      if (edge && start < 0) start = x;
      if (!edge && start >= 0) {
        path.moveTo(start, y);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  for (let x = 0; x <= width; x += 1) {
    let start = -1;
    for (let y = 0; y <= height; y += 1) {
      const edge = y < height && at(x - 1, y) !== at(x, y);
      if (edge && start < 0) start = y;
      if (!edge && start >= 0) {
        path.moveTo(x, start);
        path.lineTo(x, y);
        start = -1;
      }
    }
  }
  return path;
}

/** `map` painted with `colours[value]` (R, G, B, A); values without a colour stay clear. */
export function painted(map: ByteMap, colours: ReadonlyMap<number, readonly number[]>): OffscreenCanvas {
  const canvas = new OffscreenCanvas(map.width, map.height);
  const context = canvas.getContext("2d")!;
  const pixels = context.createImageData(map.width, map.height);
  const table = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(table.buffer);
  for (const [value, colour] of colours) bytes.set(colour, 4 * value);
  const out = new Uint32Array(pixels.data.buffer);
  map.values.forEach((value, at) => (out[at] = table[value]!));
  context.putImageData(pixels, 0, 0);
  return canvas;
}
