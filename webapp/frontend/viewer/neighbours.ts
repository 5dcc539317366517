// Which items stand around the one that is shown, as far as the page knows: so that a held key need not wait for pages.

interface Around {
  run: number[];
  first: boolean;
  last: boolean;
  stack: number[];
}

/** So many items before an end that is none, more are asked for. */
const NEAR = 60;

export class Order {
  private run: number[];
  private first = false;
  private last = false;
  private slices: number[] = [];
  private asking = false;

  /** `told` is called whenever more is known. */
  constructor(
    shown: { id: number; before: number | null; after: number | null },
    private readonly told: () => void,
  ) {
    this.run = [shown.before, shown.id, shown.after].filter((id) => id !== null);
  }

  /** The item `by` places further on, or as near to it as is known; null where there is none in that direction. */
  item(from: number, by: number): number | null {
    return further(this.run, from, by);
  }

  slice(from: number, by: number): number | null {
    return further(this.slices, from, by);
  }

  /** All slices of the stack in which `id` is; empty where it is in none, or where nobody knows yet. */
  stackOf(id: number): readonly number[] {
    return this.slices.includes(id) ? this.slices : [];
  }

  /** Asks for more around `id`, if that is worth it. `address` lists the items around it. */
  async know(id: number, address: string, stacked: boolean): Promise<void> {
    const at = this.run.indexOf(id);
    const near = at < 0 || (at < NEAR && !this.first) || (this.run.length - at <= NEAR && !this.last);
    if (this.asking || !(near || (stacked && !this.slices.includes(id)))) return;
    this.asking = true;
    try {
      const answer = await fetch(address, { credentials: "same-origin" });
      if (answer.ok && !answer.redirected) this.take((await answer.json()) as Around);
    } catch {
      // Without it one goes from page to page by what they say themselves; it is asked for again at the next step.
    } finally {
      this.asking = false;
    }
    this.told();
  }

  private take(around: Around): void {
    ({ run: this.run, first: this.first, last: this.last, stack: this.slices } = around);
  }

  /** What the page of an item says itself, where nothing better is known. */
  meet(shown: { id: number; before: number | null; after: number | null }): void {
    if (!this.run.includes(shown.id)) {
      this.run = [shown.before, shown.id, shown.after].filter((id) => id !== null);
      this.first = this.last = false;
    }
  }
}

function further(ids: readonly number[], from: number, by: number): number | null {
  const at = ids.indexOf(from);
  if (at < 0) return null;
  const to = Math.min(ids.length - 1, Math.max(0, at + by));
  return to === at ? null : ids[to]!;
}
