// The line that says where the pointer is and what grey value lies there.
import { whole } from "../shared/numbers";
import { type ByteMap } from "./class_map";
import { isEightBit, type Item } from "./item";
import { type Raster } from "./canvas";

/** Of the picture `values` that was drawn of the item as `raster` says; without values the place alone. */
export function readoutOf(at: { x: number; y: number }, item: Item, raster: Raster, values: ByteMap | null): string {
  const place = `x ${whole(at.x)} y ${whole(at.y)}`;
  const byte = values?.values[Math.floor(at.y / values.factor) * values.width + Math.floor(at.x / values.factor)];
  if (byte === undefined) return place;
  const value = raster.low + (byte / 255) * (raster.high - raster.low);
  const exact = isEightBit(item) && raster.low === 0 && raster.high === 255 && values!.factor === 1;
  const edge = exact ? "" : byte === 0 ? "≤ " : byte === 255 ? "≥ " : "≈ ";
  return `${place} · ${edge}${value.toLocaleString("en-US", { maximumSignificantDigits: exact ? 3 : 4 })}`;
}
