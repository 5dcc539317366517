// From item to item in place: only the newest wish counts, so that a held key drops pictures and never queues them up.

export class Stepper {
  private wanted: number | null = null;
  private going = false;

  /** `go` shows an item and throws where that cannot be done in place. */
  constructor(
    private readonly shown: () => number,
    private readonly go: (id: number) => Promise<void>,
    private readonly rested: () => void,
  ) {}

  /** Where the reader is on the way to. */
  get target(): number {
    return this.wanted ?? this.shown();
  }

  get resting(): boolean {
    return !this.going;
  }

  to(id: number | null): void {
    if (id === null || id === this.target) return;
    this.wanted = id;
    if (!this.going) void this.follow();
  }

  private async follow(): Promise<void> {
    this.going = true;
    while (this.wanted !== null && this.wanted !== this.shown()) {
      const next: number = this.wanted;
      await this.go(next);
      if (this.wanted === next) break;
    }
    this.wanted = null;
    this.going = false;
    this.rested();
  }
}
