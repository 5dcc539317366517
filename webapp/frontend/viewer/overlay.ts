// What lies over the micrograph, on one canvas: fills, outlines of the same width at every zoom, hatches, maps.
import { border, classesIn, painted, type ByteMap } from "./class_map";
import { LINE_OVER, ramp } from "./colour_maps";
import type { Placement } from "./canvas";

export type Style = "outline" | "fill" | "over" | "alone";

/** One thing to draw, `opacity` 0 to 1. Later ones lie on top. */
export interface Drawn {
  figure: Figure;
  style: Style;
  opacity: number;
}

/** Draws itself at `place`; `ratio` is device pixels per CSS pixel. */
export interface Figure {
  draw(canvas: Canvas, style: Style): void;
}

export interface Canvas {
  context: CanvasRenderingContext2D;
  place: Placement;
  ratio: number;
}

type Context = CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D;

const OUTLINE = 2;
const CASING = 1;
const FILL = 0.5;

export function rgba(colour: string, alpha = 1): number[] {
  const digits = /^#([0-9a-f]{6})$/i.exec(colour)?.[1] ?? "56b4e9";
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16)).concat(Math.round(255 * alpha));
}

/** From here on, `context` is drawn to in the pixels of a map with this `factor`. */
function toMap({ place, ratio }: Canvas, factor: number, context: Context): void {
  const scale = place.scale * factor * ratio;
  context.setTransform(scale, 0, 0, scale, place.left * ratio, place.top * ratio);
}

function stroke(canvas: Canvas, path: Path2D, factor: number, colour: string, width: number): void {
  const { context, place } = canvas;
  toMap(canvas, factor, context);
  context.lineCap = "square";
  context.lineWidth = width / (place.scale * factor);
  context.strokeStyle = colour;
  context.stroke(path);
}

/** A mask or a prediction: classes with a colour each. */
export class Classes implements Figure {
  private readonly borders: { path: Path2D; colour: string }[] = [];
  private fill: OffscreenCanvas | null = null;

  constructor(
    readonly map: ByteMap,
    private readonly colourOf: (value: number) => string,
  ) {}

  draw(canvas: Canvas, style: Style): void {
    const { factor } = this.map;
    if (style === "fill") {
      const { context } = canvas;
      toMap(canvas, factor, context);
      context.imageSmoothingEnabled = false;
      context.globalAlpha *= FILL;
      context.drawImage(this.filled(), 0, 0);
      return;
    }
    for (const { path } of this.lines()) stroke(canvas, path, factor, "#000000", OUTLINE + 2 * CASING);
    for (const { path, colour } of this.lines()) stroke(canvas, path, factor, colour, OUTLINE);
  }

  private lines(): { path: Path2D; colour: string }[] {
    if (!this.borders.length) {
      for (const value of classesIn(this.map)) {
        this.borders.push({ path: border(this.map, (other) => other === value), colour: this.colourOf(value) });
      }
    }
    return this.borders;
  }

  private filled(): OffscreenCanvas {
    const colours = classesIn(this.map).map((value): [number, number[]] => [value, rgba(this.colourOf(value))]);
    return (this.fill ??= painted(this.map, new Map(colours)));
  }
}

/** Missed: hatched in the mask's colour. Invented: solid in the prediction's. Agreement stays clear. */
export class Errors implements Figure {
  private readonly missed: OffscreenCanvas;
  private readonly invented: OffscreenCanvas;
  private readonly missedBorder: Path2D;
  private readonly factor: number;
  private readonly scratch = new OffscreenCanvas(1, 1);

  constructor(
    errors: { missed: ByteMap; invented: ByteMap },
    private readonly colours: { mask: string; prediction: string },
  ) {
    this.factor = errors.missed.factor;
    this.missed = painted(errors.missed, new Map([[1, rgba(colours.mask)]]));
    this.invented = painted(errors.invented, new Map([[1, rgba(colours.prediction)]]));
    this.missedBorder = border(errors.missed, (value) => value === 1);
  }

  draw(canvas: Canvas): void {
    const { context, ratio } = canvas;
    toMap(canvas, this.factor, context);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.invented, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.hatched(canvas), 0, 0);
    stroke(canvas, this.missedBorder, this.factor, this.colours.mask, 1 / ratio);
  }

  private hatched(canvas: Canvas): OffscreenCanvas {
    const { width, height } = canvas.context.canvas;
    Object.assign(this.scratch, { width, height });
    const context = this.scratch.getContext("2d")!;
    context.imageSmoothingEnabled = false;
    toMap(canvas, this.factor, context);
    context.drawImage(this.missed, 0, 0);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = context.createPattern(hatch(this.colours.mask, canvas.ratio), "repeat")!;
    context.fillRect(0, 0, width, height);
    return this.scratch;
  }
}

function hatch(colour: string, ratio: number): OffscreenCanvas {
  const side = Math.round(8 * ratio);
  const tile = new OffscreenCanvas(side, side);
  const context = tile.getContext("2d")!;
  for (const [style, width] of [["#000000", 4], [colour, 2.5]] as const) {
    context.strokeStyle = style;
    context.lineWidth = width * ratio * 0.8;
    context.beginPath();
    for (const shift of [-side, 0, side]) {
      context.moveTo(shift - side, side * 2);
      context.lineTo(shift + side * 2, -side);
    }
    context.stroke();
  }
  return tile;
}

/** An activation map: a ramp over the micrograph with lines at half and four fifths, or viridis on its own. */
export class Activation implements Figure {
  private readonly pictures = new Map<Style, OffscreenCanvas>();
  private lines: Path2D[] | null = null;

  constructor(private readonly map: ByteMap) {}

  draw(canvas: Canvas, style: Style): void {
    const { context, place, ratio } = canvas;
    const { factor } = this.map;
    toMap(canvas, factor, context);
    context.imageSmoothingEnabled = place.scale * factor * ratio < 1;
    context.drawImage(this.picture(style), 0, 0);
    if (style === "alone") return;
    this.lines ??= [128, 204].map((least) => border(this.map, (value) => value >= least));
    for (const path of this.lines) stroke(canvas, path, factor, "#000000", 3);
    for (const path of this.lines) stroke(canvas, path, factor, LINE_OVER, 1);
  }

  private picture(style: Style): OffscreenCanvas {
    let found = this.pictures.get(style);
    if (!found) this.pictures.set(style, (found = painted(this.map, ramp(style === "alone" ? "alone" : "over"))));
    return found;
  }
}

/** A whole picture in the place of the micrograph; `full` is the item's width. */
export class Painting implements Figure {
  private readonly factor: number;

  constructor(
    private readonly picture: ImageBitmap,
    full: number,
  ) {
    this.factor = Math.max(1, Math.ceil(full / picture.width));
  }

  draw(canvas: Canvas): void {
    const { context, place, ratio } = canvas;
    toMap(canvas, this.factor, context);
    context.imageSmoothingEnabled = place.scale * this.factor * ratio < 1;
    context.drawImage(this.picture, 0, 0);
  }
}

/** The canvas over the stage. */
export class Overlay {
  readonly canvas = document.createElement("canvas");
  hidden = false;
  private drawn: Drawn[] = [];
  private wanted = false;

  constructor(
    private readonly host: HTMLElement,
    private readonly place: () => Placement,
  ) {
    this.canvas.className = "overlay";
    host.append(this.canvas);
  }

  set(drawn: Drawn[]): void {
    this.drawn = drawn;
    this.draw();
  }

  /** Draws in the next frame; any number of calls before it cost one drawing. */
  draw(): void {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      this.paint();
    });
  }

  private paint(): void {
    const ratio = devicePixelRatio;
    const width = Math.round(this.host.clientWidth * ratio);
    const height = Math.round(this.host.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (this.hidden) return;
    const place = this.place();
    for (const { figure, style, opacity } of this.drawn) {
      context.save();
      context.globalAlpha = opacity;
      figure.draw({ context, place, ratio }, style);
      context.restore();
    }
  }
}
