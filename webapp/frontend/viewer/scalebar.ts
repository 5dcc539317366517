// A scale bar of 1, 2 or 5 x 10^n, between 80 and 160 px long.

export interface Bar {
  /** CSS pixels. */
  width: number;
  label: string;
}

/** The longest round length that fits; `scale` is CSS pixels per image pixel. */
export function scaleBar(nmPerPixel: number, scale: number, longest = 160): Bar {
  const nmPerCss = nmPerPixel / scale;
  const most = longest * nmPerCss;
  const power = 10 ** Math.floor(Math.log10(most));
  const nm = (most / power >= 5 ? 5 : most / power >= 2 ? 2 : 1) * power;
  return { width: nm / nmPerCss, label: lengthText(nm) };
}

/** nm below 1,000 nm, then µm. */
export function lengthText(nm: number): string {
  const [value, unit] = nm < 1000 ? [nm, "nm"] : [nm / 1000, "µm"];
  return `${value.toLocaleString("en-US", { maximumSignificantDigits: 3 })} ${unit}`;
}

/** Into `box`, which holds an SVG with one rectangle, and a span for the label. */
export function drawScaleBar(box: HTMLElement, bar: Bar): void {
  const svg = box.querySelector("svg")!;
  const width = String(Math.round(bar.width));
  svg.setAttribute("width", width);
  svg.querySelector("rect")!.setAttribute("width", width);
  box.querySelector("span")!.textContent = bar.label;
}
