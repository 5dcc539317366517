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
  private readonly table = new Uint8ClampedArray(256).map((_, value) => value);
  private plain = true;
  private applying = false;
  private again = false;
  private shown: OpenSeadragon.TiledImage | null = null;
  private asked = "";
  /** Resolves once the first picture is there. */
  readonly ready: Promise<boolean>;

  /** `size` is the item's. */
  constructor(
    readonly element: HTMLElement,
    private readonly size: { width: number; height: number },
    private readonly tiles: Tiles | null,
    raster: Raster,
    private readonly told: { moved: () => void; failed: (url: string) => void },
  ) {
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
      if (this.plain) return;
      const context = (await event.getData("context2d")) as CanvasRenderingContext2D | null;
      if (!context) return;
      this.apply(context);
      await event.setData(context, "context2d");
    });
    this.viewer.addHandler("update-viewport", () => this.moved());
    this.viewer.addHandler("resize", () => this.moved());
    this.viewer.addHandler("tile-load-failed", () => this.told.failed(this.asked));
    this.ready = this.show(raster);
  }

  private source(raster: Raster): object {
    const { tiles, size } = this;
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

  /** Puts another picture in the place of the one shown, which stays until the new one is there. */
  async show(raster: Raster): Promise<boolean> {
    const { url } = raster;
    this.asked = url;
    return new Promise((resolve) => {
      const fail = (): void => {
        if (this.asked === url) this.told.failed(url);
        resolve(false);
      };
      this.viewer.addTiledImage({
        tileSource: this.source(raster) as OpenSeadragon.TileSourceOptions,
        width: 1,
        success: (event) => {
          const item = (event as unknown as { item: OpenSeadragon.TiledImage }).item;
          if (this.asked !== url) {
            this.viewer.world.removeItem(item);
            resolve(false);
            return;
          }
          if (this.shown) this.viewer.world.removeItem(this.shown);
          else this.home();
          this.shown = item;
          resolve(true);
        },
        error: fail,
      });
    });
  }

  private home(): void {
    this.viewer.viewport.goHome(true);
  }

  private moved(): void {
    // Averaging hides the pixels that the reader came to see; below 100 % it only keeps lines from breaking up.
    this.viewer.drawer.setImageSmoothingEnabled(this.zoom < 1);
    this.told.moved();
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

  look(view: View, immediately = false): void {
    const { viewport } = this.viewer;
    viewport.panTo(new OpenSeadragon.Point(view.x / this.size.width, view.y / this.size.width), immediately);
    this.zoomTo(view.zoom, immediately);
  }

  zoomTo(zoom: number, immediately = false): void {
    const { viewport } = this.viewer;
    viewport.zoomTo((zoom / devicePixelRatio) * (this.size.width / viewport.getContainerSize().x), undefined, immediately);
    viewport.applyConstraints(immediately);
  }

  fit(): void {
    this.viewer.viewport.goHome();
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

  /** Shows each grey value as `table` says. */
  setTable(table: Uint8ClampedArray): void {
    this.table.set(table);
    this.plain = table.every((shown, value) => shown === value);
    void this.invalidate();
  }

  private async invalidate(): Promise<void> {
    // While one pass runs only the newest of the wishes that come in is kept.
    this.again = true;
    if (this.applying) return;
    this.applying = true;
    while (this.again) {
      this.again = false;
      await this.viewer.requestInvalidate(true);
    }
    this.applying = false;
  }

  private apply(context: CanvasRenderingContext2D): void {
    const { width, height } = context.canvas;
    const pixels = context.getImageData(0, 0, width, height);
    const { data } = pixels;
    for (let at = 0; at < data.length; at += 4) {
      // Each channel by itself: of a grey picture the three are alike, of a photograph they are not.
      data[at] = this.table[data[at]!]!;
      data[at + 1] = this.table[data[at + 1]!]!;
      data[at + 2] = this.table[data[at + 2]!]!;
    }
    context.putImageData(pixels, 0, 0);
  }
}
