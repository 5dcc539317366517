// The micrograph itself: OpenSeadragon with square pixels above 100 %, without its keys that mirror and rotate, and with
// a contrast window of our own.
import OpenSeadragon from "openseadragon";

/** An 8-bit picture of the item. Its 0 and 255 stand for `low` and `high` in the item's own units. */
export interface Raster {
  url: string;
  low: number;
  high: number;
}

/** A large item's picture in squares: `levels` counts from full size to the one that fits into a single square. */
export interface Tiles {
  address: string;
  size: number;
  levels: number;
}

export interface Size {
  width: number;
  height: number;
}

/** What is to be seen: a picture of an item of this size, each grey value shown as `table` gives. */
export interface Frame {
  size: Size;
  tiles: Tiles | null;
  raster: Raster;
  table: Uint8ClampedArray;
}

/** A frame that is on the stage: the one that is shown, or one that waits hidden to take its place. */
export interface Picture extends Frame {
  readonly image: OpenSeadragon.TiledImage;
}

/** Where the reader looks: image pixel at the centre, and device pixels per image pixel. */
export interface View {
  x: number;
  y: number;
  zoom: number;
}

/** From image pixels to CSS pixels of the stage: `left + x * scale`. */
export interface Placement {
  left: number;
  top: number;
  scale: number;
}

const STEPS = [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32];
const LARGEST = 32;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  readonly viewer: OpenSeadragon.Viewer;
  private applying = false;
  private invalidAgain = false;
  private shown: Picture | null = null;
  private size: Size;
  private requested = "";
  private readonly pictures = new Map<OpenSeadragon.TiledImage, Picture>();
  /** Called once a picture is complete. */
  private readonly waiting = new Map<OpenSeadragon.TiledImage, (() => void)[]>();
  /** Resolves once the first picture is there. */
  readonly ready: Promise<boolean>;

  constructor(
    readonly element: HTMLElement,
    first: Frame,
    private readonly handlers: { moved: () => void; failed: (url: string) => void },
  ) {
    this.size = first.size;
    // Where it finds its style sheet in place it does not write one, which the content security policy would refuse. Ours
    // shows the focus.
    const there = document.createElementNS(null, "style");
    there.setAttribute("data-openseadragon-mobile-css", "");
    document.head.append(there);
    this.viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      tileSources: [],
      showNavigationControl: false,
      showNavigator: false,
      imageSmoothingEnabled: false,
      smoothTileEdgesMinZoom: Infinity,
      maxZoomPixelRatio: LARGEST,
      minZoomImageRatio: 0.5,
      visibilityRatio: 0.2,
      zoomPerScroll: 1.25,
      animationTime: calm.matches ? 0 : 0.25,
      springStiffness: 10,
      immediateRender: true,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: false },
      gestureSettingsTouch: { dblClickToZoom: false, pinchRotate: false },
    });
    this.viewer.addHandler("canvas-key", (event) => {
      // Its letters pan, mirror and rotate; ours choose layers and items. A mirrored micrograph is a wrong one.
      if ((event.originalEvent as KeyboardEvent).key.length === 1) event.preventDefaultAction = true;
    });
    this.viewer.addHandler("tile-invalidated", async (event) => {
      const table = this.pictures.get(event.tiledImage)?.table;
      if (!table || isPlain(table)) return;
      const context = (await event.getData("context2d")) as CanvasRenderingContext2D | null;
      if (!context) return;
      apply(table, context);
      await event.setData(context, "context2d");
    });
    this.viewer.addHandler("update-viewport", () => this.viewMoved());
    this.viewer.addHandler("resize", () => this.viewMoved());
    this.viewer.addHandler("tile-load-failed", (event) => {
      this.release(event.tiledImage); // What can be shown of it is better than what was there before.
      if (event.tiledImage === this.shown?.image) this.handlers.failed(this.requested);
    });
    this.ready = this.begin(first);
  }

  private async begin(first: Frame): Promise<boolean> {
    this.requested = first.raster.url;
    try {
      this.shown = await this.add(first, 1);
    } catch {
      this.handlers.failed(first.raster.url);
      return false;
    }
    this.viewer.viewport.goHome(true);
    return true;
  }

  private source({ tiles, size, raster }: Frame): object {
    if (!tiles) return { type: "image", url: raster.url };
    const query = new URLSearchParams({ low: String(raster.low), high: String(raster.high) });
    const top = Math.ceil(Math.log2(Math.max(size.width, size.height)));
    return {
      ...size,
      tileSize: tiles.size,
      tileOverlap: 0,
      maxLevel: top,
      minLevel: top - tiles.levels + 1,
      getTileUrl: (level: number, x: number, y: number) => `${tiles.address}${top - level}/${x}-${y}.png?${query}`,
    };
  }

  private add(frame: Frame, opacity: number): Promise<Picture> {
    return new Promise((resolve, reject) => {
      this.viewer.addTiledImage({
        tileSource: this.source(frame) as OpenSeadragon.TileSourceOptions,
        width: 1,
        opacity,
        preload: true,
        success: (event) => {
          const image = (event as unknown as { item: OpenSeadragon.TiledImage }).item;
          const picture = { ...frame, image };
          this.pictures.set(image, picture);
          resolve(picture);
        },
        error: () => reject(new Error(`${frame.raster.url} could not be read`)),
      });
    });
  }

  /** Puts a frame behind the one that is shown, unseen. Throws where it cannot be read. */
  async load(frame: Frame): Promise<Picture> {
    if (!frame.tiles) {
      // Others that are loaded at the same time need not wait for this one in the viewer's queue.
      const early = new Image();
      early.src = frame.raster.url;
      await early.decode();
    }
    return this.add(frame, 0);
  }

  /** Resolves once all that the present view needs of it could be drawn. */
  loaded({ image }: Picture): Promise<void> {
    if (image.getFullyLoaded()) return Promise.resolve();
    return new Promise((resolve) => {
      if (!this.waiting.has(image)) {
        image.addHandler("fully-loaded-change", (event) => {
          if ((event as unknown as { fullyLoaded: boolean }).fullyLoaded) this.release(image);
        });
        this.waiting.set(image, []);
      }
      this.waiting.get(image)!.push(resolve);
    });
  }

  private release(image: OpenSeadragon.TiledImage): void {
    for (const go of this.waiting.get(image)?.splice(0) ?? []) go();
  }

  /** Shows `next` in the place of the picture that is shown, in one frame, and returns that one: hidden, not gone. */
  swap(next: Picture): Picture | null {
    const before = this.shown;
    if (before === next) return null;
    const [view, fitted] = [this.view, this.fitted];
    before?.image.setOpacity(0);
    next.image.setOpacity(1);
    this.shown = next;
    this.requested = next.raster.url;
    const resized = next.size.width !== this.size.width || next.size.height !== this.size.height;
    this.size = next.size;
    if (resized && fitted) this.fit(true);
    else if (resized) this.moveTo(view, true);
    this.viewer.forceRedraw();
    return before;
  }

  drop(picture: Picture): void {
    if (picture === this.shown) return;
    this.pictures.delete(picture.image);
    this.release(picture.image);
    this.waiting.delete(picture.image);
    this.viewer.world.removeItem(picture.image);
  }

  /** Draws the same item from another picture; the one that is shown stays until the new one is complete. */
  async show(raster: Raster, table: Uint8ClampedArray): Promise<boolean> {
    await this.ready;
    const { shown } = this;
    if (!shown) return false;
    const { url } = raster;
    this.requested = url;
    let next: Picture;
    try {
      next = await this.load({ ...shown, raster, table });
    } catch {
      if (this.requested === url) this.handlers.failed(url);
      return false;
    }
    await this.loaded(next);
    // The reader may have gone on meanwhile, to another window or to another item.
    if (this.requested !== url || this.shown !== shown) {
      this.drop(next);
      return false;
    }
    this.swap(next);
    return true;
  }

  get picture(): Picture | null {
    return this.shown;
  }

  private viewMoved(): void {
    // Averaging hides the pixels that the reader came to see; below 100 % it only keeps lines from breaking up.
    this.viewer.drawer.setImageSmoothingEnabled(this.zoom < 1);
    this.handlers.moved();
  }

  get placement(): Placement {
    const { viewport } = this.viewer;
    const origin = viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
    return { left: origin.x, top: origin.y, scale: this.cssScale(viewport.getZoom(true)) };
  }

  private cssScale(zoom: number): number {
    return (this.viewer.viewport.getContainerSize().x * zoom) / this.size.width;
  }

  /** Device pixels per image pixel: 1 is 100 %. */
  get zoom(): number {
    return this.cssScale(this.viewer.viewport.getZoom(true)) * devicePixelRatio;
  }

  get view(): View {
    const { viewport } = this.viewer;
    const centre = viewport.getCenter(false);
    const zoom = this.cssScale(viewport.getZoom(false)) * devicePixelRatio;
    return { x: centre.x * this.size.width, y: centre.y * this.size.width, zoom };
  }

  /** Whether the whole image is in sight, as large as it can be. */
  private get fitted(): boolean {
    const { width, height } = this.size;
    const box = this.viewer.viewport.getContainerSize();
    const fitting = Math.min(box.x / width, box.y / height) * devicePixelRatio;
    return Math.abs(this.view.zoom / fitting - 1) < 0.01;
  }

  moveTo(view: View, immediately = false): void {
    const { viewport } = this.viewer;
    viewport.panTo(new OpenSeadragon.Point(view.x / this.size.width, view.y / this.size.width), immediately);
    this.zoomTo(view.zoom, immediately);
  }

  zoomTo(zoom: number, immediately = false): void {
    const { viewport } = this.viewer;
    viewport.zoomTo((zoom / devicePixelRatio) * (this.size.width / viewport.getContainerSize().x), undefined, immediately);
    viewport.applyConstraints(immediately);
  }

  fit(immediately = false): void {
    const { width, height } = this.size;
    this.viewer.viewport.fitBounds(new OpenSeadragon.Rect(0, 0, 1, height / width), immediately);
  }

  /** To the next of 12.5, 25, 50 ... 3,200 %. */
  step(direction: 1 | -1): void {
    const now = this.view.zoom;
    const next = direction > 0 ? STEPS.find((s) => s > now * 1.01) : STEPS.findLast((s) => s < now * 0.99);
    if (next) this.zoomTo(next);
  }

  /** Image pixel under a point of the stage, in CSS pixels; null outside the image. */
  pixelAt(left: number, top: number): { x: number; y: number } | null {
    const place = this.placement;
    const x = Math.floor((left - place.left) / place.scale);
    const y = Math.floor((top - place.top) / place.scale);
    return x >= 0 && y >= 0 && x < this.size.width && y < this.size.height ? { x, y } : null;
  }

  /** Shows each grey value of the picture that is shown as `table` says. */
  setTable(table: Uint8ClampedArray): void {
    const { shown } = this;
    if (shown) shown.table = table;
    void this.invalidate();
  }

  /** The same of a picture that waits. */
  async recolour(picture: Picture, table: Uint8ClampedArray): Promise<void> {
    if (picture.table.every((shown, value) => shown === table[value])) return;
    picture.table = table;
    await picture.image.requestInvalidate(true);
  }

  private async invalidate(): Promise<void> {
    // While one pass runs only the newest request is kept.
    this.invalidAgain = true;
    if (this.applying) return;
    this.applying = true;
    while (this.invalidAgain) {
      this.invalidAgain = false;
      await this.viewer.requestInvalidate(true);
    }
    this.applying = false;
  }
}

function isPlain(table: Uint8ClampedArray): boolean {
  return table.every((shown, value) => shown === value);
}

function apply(table: Uint8ClampedArray, context: CanvasRenderingContext2D): void {
  const { width, height } = context.canvas;
  const pixels = context.getImageData(0, 0, width, height);
  const { data } = pixels;
  for (let at = 0; at < data.length; at += 4) {
    // Each channel by itself: of a grey picture the three are alike, of a photograph they are not.
    data[at] = table[data[at]!]!;
    data[at + 1] = table[data[at + 1]!]!;
    data[at + 2] = table[data[at + 2]!]!;
  }
  context.putImageData(pixels, 0, 0);
}
