// A scale bar of 1, 2 or 5 x 10^n, between 80 and 160 px long.

export interface Bar {
  /** CSS pixels. */
  width: number;
  label: string;
}

/** The longest round length that fits; `scale` is CSS pixels per image pixel. */
function scaleBar(nmPerPixel: number, scale: number, longest = 160): Bar {
  const nmPerCss = nmPerPixel / scale;
  const most = longest * nmPerCss;
  const power = 10 ** Math.floor(Math.log10(most));
  const nm = (most / power >= 5 ? 5 : most / power >= 2 ? 2 : 1) * power;
  return { width: nm / nmPerCss, label: lengthText(nm) };
}

/** nm below 1,000 nm, then µm. */
function lengthText(nm: number): string {
  const [value, unit] = nm < 1000 ? [nm, "nm"] : [nm / 1000, "µm"];
  return `${value.toLocaleString("en-US", { maximumSignificantDigits: 3 })} ${unit}`;
}

/** The bar on the stage, in `box`: an SVG with one rectangle, and a span for the label. The reader's choice is kept. */
export class ScaleBar {
  private wanted = localStorage.getItem("scale-bar") !== "off";

  constructor(private readonly box: HTMLElement) {}

  toggle(): void {
    this.wanted = !this.wanted;
    localStorage.setItem("scale-bar", this.wanted ? "on" : "off");
  }

  /** The bar for this pixel size and scale; null where it is switched off or the pixel size is not known. */
  bar(nmPerPixel: number | null, scale: number): Bar | null {
    return this.wanted && nmPerPixel ? scaleBar(nmPerPixel, scale) : null;
  }

  draw(nmPerPixel: number | null, scale: number): void {
    const bar = this.bar(nmPerPixel, scale);
    this.box.hidden = !bar;
    if (!bar) return;
    const svg = this.box.querySelector("svg")!;
    const width = String(Math.round(bar.width));
    svg.setAttribute("width", width);
    svg.querySelector("rect")!.setAttribute("width", width);
    this.box.querySelector("span")!.textContent = bar.label;
  }
}
