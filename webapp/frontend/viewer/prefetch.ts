// Items made ready beside the one that is shown: their page, their layers, their picture. A few of them are kept.
import { itemOf, type Item } from "./item";
import type { Layers } from "./layers";
import type { Frame, Picture, Stage } from "./canvas";

const KEPT = 6;
/** Pixels of a picture that may wait unseen: larger ones are read when they are wanted. */
const LIGHT = 20_000_000;

/** One item with all that is shown of it. */
export class Slide {
  /** Parts of the page that tell of the item, by name. */
  readonly parts = new Map<string, HTMLElement>();
  readonly title: string;
  private coming: { url: string; picture: Promise<Picture> } | null = null;

  constructor(
    readonly item: Item,
    page: Document,
    readonly layers: Layers,
  ) {
    this.title = page.title;
    for (const part of page.querySelectorAll<HTMLElement>("[data-follows]")) this.parts.set(part.dataset["follows"]!, part);
  }

  /** Its picture on the stage, brought there unless it is there. */
  picture(stage: Stage, frame: Frame): Promise<Picture> {
    const { url } = frame.raster;
    if (this.coming?.url !== url) {
      this.leave(stage);
      const picture = stage.bring(frame);
      this.coming = { url, picture };
      picture.catch(() => {
        if (this.coming?.picture === picture) this.coming = null;
      });
    }
    return this.coming!.picture;
  }

  /** It is shown by a picture that somebody else brought. */
  has(picture: Picture | null): void {
    this.coming = picture && { url: picture.raster.url, picture: Promise.resolve(picture) };
  }

  leave(stage: Stage): void {
    this.coming?.picture.then((picture) => stage.drop(picture)).catch(() => undefined);
    this.coming = null;
  }
}

/** The slides that were used last. */
export class Slides {
  private readonly kept = new Map<number, { slide: Promise<Slide>; there: Slide | null }>();

  constructor(
    private readonly stage: Stage,
    private readonly address: (id: number) => string,
    private readonly layersOf: (page: Document, item: Item) => Layers,
  ) {}

  keep(slide: Slide): void {
    this.kept.set(slide.item.id, { slide: Promise.resolve(slide), there: slide });
  }

  async get(id: number): Promise<Slide> {
    const found = this.kept.get(id) ?? { slide: this.read(id), there: null };
    this.kept.delete(id);
    this.kept.set(id, found); // the last in the row: used last
    try {
      return (found.there = await found.slide);
    } catch (error) {
      if (this.kept.get(id) === found) this.kept.delete(id);
      throw error;
    }
  }

  private async read(id: number): Promise<Slide> {
    const answer = await fetch(this.address(id), { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) throw new Error(`${answer.url}: ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const item = itemOf(page);
    return new Slide(item, page, this.layersOf(page, item));
  }

  /** Forgets what was not used for longest, and pictures that are too heavy to wait. `shown` stays. */
  tidy(shown: Slide): void {
    const others = [...this.kept].filter(([, each]) => each.there !== shown);
    others.forEach(([id, { there }], place) => {
      const old = place < others.length - KEPT;
      if (old && there) this.kept.delete(id);
      if (there && (old || !canWait(there.item, shown.item))) there.leave(this.stage);
    });
  }
}

/** Whether the picture of `item` may wait behind that of `shown`: of another size, it would lie elsewhere. */
export function canWait(item: Item, shown: Item): boolean {
  const alike = item.width === shown.width && item.height === shown.height;
  return alike && !item.tiles && item.width * item.height <= LIGHT;
}
