// Which items stand around the one that is shown, as far as the page knows: so that a held key need not wait for pages.

interface Around {
  run: number[];
  first: boolean;
  last: boolean;
  stack: number[];
}

/** More is loaded when fewer items than this are known in one direction. */
const NEAR = 60;

export class Order {
  private run: number[];
  private first = false;
  private last = false;
  private slices: number[] = [];
  private loading = false;

  /** `changed` is called whenever more is known. */
  constructor(
    shown: { id: number; before: number | null; after: number | null },
    private readonly changed: () => void,
  ) {
    this.run = [shown.before, shown.id, shown.after].filter((id) => id !== null);
  }

  /** The item `by` places further on, or as near to it as is known; null where there is none in that direction. */
  item(from: number, by: number): number | null {
    return neighbour(this.run, from, by);
  }

  slice(from: number, by: number): number | null {
    return neighbour(this.slices, from, by);
  }

  /** All slices of the stack in which `id` is; empty where it is in none, or where it is not known yet. */
  stackOf(id: number): readonly number[] {
    return this.slices.includes(id) ? this.slices : [];
  }

  /** Loads more of the order around `id` where little is known. `address` lists the items around it. */
  async load(id: number, address: string, stacked: boolean): Promise<void> {
    const at = this.run.indexOf(id);
    const near = at < 0 || (at < NEAR && !this.first) || (this.run.length - at <= NEAR && !this.last);
    if (this.loading || !(near || (stacked && !this.slices.includes(id)))) return;
    this.loading = true;
    try {
      const answer = await fetch(address, { credentials: "same-origin" });
      if (answer.ok && !answer.redirected) this.set((await answer.json()) as Around);
    } catch {
      // Without it, each page gives its own neighbours; the next step tries again.
    } finally {
      this.loading = false;
    }
    this.changed();
  }

  private set(around: Around): void {
    ({ run: this.run, first: this.first, last: this.last, stack: this.slices } = around);
  }

  /** Takes the neighbours that the page of an item gives, where nothing better is known. */
  add(shown: { id: number; before: number | null; after: number | null }): void {
    if (!this.run.includes(shown.id)) {
      this.run = [shown.before, shown.id, shown.after].filter((id) => id !== null);
      this.first = this.last = false;
    }
  }
}

function neighbour(ids: readonly number[], from: number, by: number): number | null {
  const at = ids.indexOf(from);
  if (at < 0) return null;
  const to = Math.min(ids.length - 1, Math.max(0, at + by));
  return to === at ? null : ids[to]!;
}
