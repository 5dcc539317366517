// From item to item without loading a page: only the newest target counts, so that a held key skips pictures.

export class Stepper {
  private wanted: number | null = null;
  private running = false;

  /** `show` shows an item and throws where that cannot be done in place. */
  constructor(
    private readonly shown: () => number,
    private readonly show: (id: number) => Promise<void>,
    private readonly finished: () => void,
  ) {}

  /** The item that the reader is on the way to. */
  get target(): number {
    return this.wanted ?? this.shown();
  }

  get resting(): boolean {
    return !this.running;
  }

  goTo(id: number | null): void {
    if (id === null || id === this.target) return;
    this.wanted = id;
    if (!this.running) void this.follow();
  }

  private async follow(): Promise<void> {
    this.running = true;
    while (this.wanted !== null && this.wanted !== this.shown()) {
      const next: number = this.wanted;
      await this.show(next);
      if (this.wanted === next) break;
    }
    this.wanted = null;
    this.running = false;
    this.finished();
  }
}
