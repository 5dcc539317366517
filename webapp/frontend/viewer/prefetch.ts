// Items loaded before they are asked for: their page, their layers, their picture. A few of them are kept.
import { itemOf, type Item } from "./item";
import type { Layers } from "./layers";
import type { Frame, Picture, Stage } from "./canvas";

const MOST_SLIDES = 6;
/** Pixels of a picture that may be loaded ahead: larger ones are loaded when they are shown. */
const MOST_PIXELS = 20_000_000;

/** One item with all that is shown of it. */
export class Slide {
  /** Parts of the page that describe the item, by name. */
  readonly parts = new Map<string, HTMLElement>();
  readonly title: string;
  private loading: { url: string; picture: Promise<Picture> } | null = null;

  constructor(
    readonly item: Item,
    page: Document,
    readonly layers: Layers,
  ) {
    this.title = page.title;
    for (const part of page.querySelectorAll<HTMLElement>("[data-follows]")) this.parts.set(part.dataset["follows"]!, part);
  }

  /** Its picture on the stage, loaded where that was not done yet. */
  picture(stage: Stage, frame: Frame): Promise<Picture> {
    const { url } = frame.raster;
    if (this.loading?.url !== url) {
      this.release(stage);
      const picture = stage.load(frame);
      this.loading = { url, picture };
      picture.catch(() => {
        if (this.loading?.picture === picture) this.loading = null;
      });
    }
    return this.loading!.picture;
  }

  /** It is shown by a picture that was loaded elsewhere. */
  setPicture(picture: Picture | null): void {
    this.loading = picture && { url: picture.raster.url, picture: Promise.resolve(picture) };
  }

  release(stage: Stage): void {
    this.loading?.picture.then((picture) => stage.drop(picture)).catch(() => undefined);
    this.loading = null;
  }
}

/** The slides that were used last. */
export class Slides {
  private readonly kept = new Map<number, { slide: Promise<Slide>; loaded: Slide | null }>();

  constructor(
    private readonly stage: Stage,
    private readonly address: (id: number) => string,
    private readonly layersOf: (page: Document, item: Item) => Layers,
  ) {}

  keep(slide: Slide): void {
    this.kept.set(slide.item.id, { slide: Promise.resolve(slide), loaded: slide });
  }

  async get(id: number): Promise<Slide> {
    const found = this.kept.get(id) ?? { slide: this.load(id), loaded: null };
    this.kept.delete(id);
    this.kept.set(id, found); // last in the map: used last
    try {
      return (found.loaded = await found.slide);
    } catch (error) {
      if (this.kept.get(id) === found) this.kept.delete(id);
      throw error;
    }
  }

  private async load(id: number): Promise<Slide> {
    const answer = await fetch(this.address(id), { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.url}: ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const item = itemOf(page);
    return new Slide(item, page, this.layersOf(page, item));
  }

  /** Drops the slides that were not used for longest, and pictures that are too large to keep. `shown` stays. */
  dropUnused(shown: Slide): void {
    const others = [...this.kept].filter(([, each]) => each.loaded !== shown);
    others.forEach(([id, { loaded }], place) => {
      const old = place < others.length - MOST_SLIDES;
      if (old && loaded) this.kept.delete(id);
      if (loaded && (old || !canKeepPicture(loaded.item, shown.item))) loaded.release(this.stage);
    });
  }
}

/** Whether the picture of `item` may stay hidden behind that of `shown`: one of another size would lie elsewhere. */
export function canKeepPicture(item: Item, shown: Item): boolean {
  const alike = item.width === shown.width && item.height === shown.height;
  return alike && !item.tiles && item.width * item.height <= MOST_PIXELS;
}
