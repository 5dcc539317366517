// The contrast window: two handles on a logarithmic histogram, typed values, Auto and Full. Stored pixels never change.

export interface Histogram {
  counts: number[];
  /** Value of the left edge of the first bin and the right edge of the last. */
  from: number;
  to: number;
  /** Least and greatest value that occurs. */
  least: number;
  greatest: number;
}

export interface Window {
  low: number;
  high: number;
}

const SATURATED = 0.0035;

/** Saturates 0.35 % of the pixels, half at either end, as ImageJ's automatic contrast does. */
export function autoWindow(histogram: Histogram): Window {
  const { counts, from, to } = histogram;
  const width = (to - from) / counts.length;
  const cut = (counts.reduce((sum, count) => sum + count, 0) * SATURATED) / 2;
  const reach = (order: number[]): number => {
    let passed = 0;
    for (const bin of order) {
      passed += counts[bin]!;
      if (passed > cut) return bin;
    }
    return order.at(-1)!;
  };
  const bins = [...counts.keys()];
  const low = Math.max(histogram.least, from + reach(bins) * width);
  const high = Math.min(histogram.greatest, from + (reach(bins.reverse()) + 1) * width);
  return high > low ? { low, high } : { low: histogram.least, high: histogram.greatest };
}

export function fullWindow(histogram: Histogram): Window {
  return { low: histogram.least, high: histogram.greatest };
}

/** What each byte of a picture whose 0 and 255 stand for `source` is shown as in `window`. */
export function tableFor(source: Window, window: Window, inverted: boolean): Uint8ClampedArray {
  const table = new Uint8ClampedArray(256);
  for (let byte = 0; byte < 256; byte += 1) {
    const value = source.low + (byte / 255) * (source.high - source.low);
    const share = (value - window.low) / (window.high - window.low);
    const shown = Math.min(1, Math.max(0, share)) * 255;
    table[byte] = inverted ? 255 - shown : shown;
  }
  return table;
}

export class ContrastPanel {
  private histogram: Histogram | null = null;
  private readonly low: HTMLInputElement;
  private readonly high: HTMLInputElement;
  private readonly sliders: [HTMLInputElement, HTMLInputElement];
  private readonly canvas: HTMLCanvasElement;

  /** `integers`: values are whole numbers; `changed` is called with every window that the reader chooses. */
  constructor(
    private readonly root: HTMLElement,
    private window: Window,
    private integers: boolean,
    private readonly changed: (window: Window) => void,
  ) {
    const find = <E extends HTMLElement>(name: string): E => root.querySelector<E>(`[data-contrast="${name}"]`)!;
    this.low = find("low");
    this.high = find("high");
    this.sliders = [find("low-handle"), find("high-handle")];
    this.canvas = find("histogram");
    for (const field of [this.low, this.high]) field.addEventListener("change", () => this.readFields());
    this.sliders.forEach((slider, end) => slider.addEventListener("input", () => this.readSlider(end as 0 | 1)));
    find("auto").addEventListener("click", () => this.auto());
    find("full").addEventListener("click", () => this.full());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.showWindow();
  }

  setHistogram(histogram: Histogram): void {
    this.histogram = histogram;
    this.root.querySelector('[data-contrast="none"]')?.remove();
    for (const slider of this.sliders) slider.disabled = false;
    this.showWindow();
  }

  /** Another item is shown, in this window. */
  setItem(window: Window, integers: boolean): void {
    this.window = window;
    this.integers = integers;
    this.showWindow();
  }

  auto(): void {
    if (this.histogram) this.choose(autoWindow(this.histogram));
  }

  full(): void {
    if (this.histogram) this.choose(fullWindow(this.histogram));
  }

  choose(window: Window): void {
    const high = window.high > window.low ? window.high : window.low + (this.integers ? 1 : 1e-6);
    this.window = { low: window.low, high };
    this.showWindow();
    this.changed(this.window);
  }

  redraw(): void {
    this.draw();
  }

  private readFields(): void {
    const read = (field: HTMLInputElement, old: number): number => {
      const value = Number(field.value.replaceAll(",", ""));
      return field.value.trim() && Number.isFinite(value) ? value : old;
    };
    const low = read(this.low, this.window.low);
    const high = read(this.high, this.window.high);
    this.choose(low < high ? { low, high } : { low: high, high: low });
  }

  private readSlider(end: 0 | 1): void {
    const { from, to } = this.span();
    const value = from + (Number(this.sliders[end].value) / 1000) * (to - from);
    const least = (to - from) / 1000;
    const { low, high } = this.window;
    const rounded = this.integers ? Math.round(value) : value;
    this.choose(end === 0 ? { low: Math.min(rounded, high - least), high } : { low, high: Math.max(rounded, low + least) });
  }

  private span(): { from: number; to: number } {
    const { histogram, window } = this;
    if (!histogram) return { from: window.low, to: window.high };
    return { from: Math.min(histogram.least, window.low), to: Math.max(histogram.greatest, window.high) };
  }

  private showWindow(): void {
    const digits = { maximumSignificantDigits: 6, maximumFractionDigits: this.integers ? 0 : 6 };
    const { low, high } = this.window;
    this.low.value = low.toLocaleString("en-US", digits);
    this.high.value = high.toLocaleString("en-US", digits);
    const { from, to } = this.span();
    [low, high].forEach((value, end) => {
      const slider = this.sliders[end as 0 | 1];
      slider.value = String(Math.round((1000 * (value - from)) / (to - from || 1)));
      slider.setAttribute("aria-valuetext", value.toLocaleString("en-US", digits));
    });
    this.draw();
  }

  private draw(): void {
    const { histogram, canvas } = this;
    if (!histogram || !canvas.clientWidth) return;
    const ratio = devicePixelRatio;
    Object.assign(canvas, { width: canvas.clientWidth * ratio, height: canvas.clientHeight * ratio });
    const context = canvas.getContext("2d")!;
    const style = getComputedStyle(canvas);
    const { from, to } = this.span();
    const place = (value: number): number => ((value - from) / (to - from || 1)) * canvas.width;
    const most = Math.log1p(Math.max(...histogram.counts));
    const step = (histogram.to - histogram.from) / histogram.counts.length;
    histogram.counts.forEach((count, bin) => {
      // On whole pixels: half-covered ones would make stripes that are not in the data.
      const left = Math.floor(place(histogram.from + bin * step));
      const right = Math.floor(place(histogram.from + (bin + 1) * step));
      const value = histogram.from + (bin + 0.5) * step;
      const kept = value >= this.window.low && value <= this.window.high;
      context.fillStyle = kept ? style.color : style.borderTopColor;
      const height = most ? (Math.log1p(count) / most) * canvas.height : 0;
      context.fillRect(left, canvas.height - height, Math.max(1, right - left), height);
    });
  }
}
