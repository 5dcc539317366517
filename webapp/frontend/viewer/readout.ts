// The line with the position of the pointer and the grey value there.
import { integerText } from "../shared/numbers";
import { readBytes, type ByteMap } from "./class_map";
import { isEightBit, type Item } from "./item";
import { type Raster, type Stage } from "./canvas";

/** `values` are those of the picture that `raster` describes; without them, the position alone. */
function readoutText(at: { x: number; y: number }, item: Item, raster: Raster, values: ByteMap | null): string {
  const place = `x ${integerText(at.x)} y ${integerText(at.y)}`;
  const byte = values?.values[Math.floor(at.y / values.factor) * values.width + Math.floor(at.x / values.factor)];
  if (byte === undefined) return place;
  const value = raster.low + (byte / 255) * (raster.high - raster.low);
  const exact = isEightBit(item) && raster.low === 0 && raster.high === 255 && values!.factor === 1;
  const edge = exact ? "" : byte === 0 ? "≤ " : byte === 255 ? "≥ " : "≈ ";
  return `${place} · ${edge}${value.toLocaleString("en-US", { maximumSignificantDigits: exact ? 3 : 4 })}`;
}

/** Follows the pointer over the stage. `current` returns what is shown there. */
export class Readout {
  private pointer: { left: number; top: number } | null = null;
  private values: ByteMap | null = null;

  constructor(
    private readonly stage: Stage,
    private readonly line: HTMLElement,
    private readonly current: () => { item: Item; raster: Raster },
  ) {
    stage.element.addEventListener("pointermove", (event) => {
      const box = stage.element.getBoundingClientRect();
      this.pointer = { left: event.clientX - box.left, top: event.clientY - box.top };
      this.update();
    });
    stage.element.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.update();
    });
  }

  update(): void {
    const at = this.pointer && this.stage.pixelAt(this.pointer.left, this.pointer.top);
    this.line.hidden = !at;
    if (!at) return;
    const { item, raster } = this.current();
    this.line.textContent = readoutText(at, item, raster, this.values);
  }

  /** Another picture is shown: its values are not known yet. */
  clear(): void {
    this.values = null;
  }

  /** Loads the grey values of the picture, once it is shown anyway. */
  async load(): Promise<void> {
    const { item, raster } = this.current();
    if (item.colour) return; // One number would not describe a colour.
    const values = await readBytes(raster.url, item.width);
    if (raster === this.current().raster) this.values = values;
  }
}
