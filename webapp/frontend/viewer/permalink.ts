// The view in the address: a link that is sent to a colleague shows what the sender saw.
import type { View } from "./canvas";
import type { Window } from "./contrast";

/** What the viewer shows beyond the item itself. Nothing given means the viewer's own choice. */
export interface Shown {
  /** Layers that are on, as "mask:mitochondria", "prediction", "errors", "cam", "colour". */
  on?: string[];
  /** Layer -> opacity in percent, where it is not 100. */
  opacity: Record<string, number>;
  /** Layer -> style, where it is not the first. */
  style: Record<string, string>;
  prediction?: number;
  cam?: number;
  colour?: number;
  window?: Window;
  /** Dark and bright exchanged, compared with how the item is stored. */
  inverted: boolean;
  view?: View;
}

const VIEW_PARAMETERS = ["on", "opacity", "style", "run", "map", "colour", "low", "high", "inverted", "x", "y", "zoom"];

function pairs(text: string | null): [string, string][] {
  return (text ?? "").split(",").filter(Boolean).map((part) => {
    const cut = part.lastIndexOf("~");
    return [part.slice(0, cut), part.slice(cut + 1)];
  });
}

function number(text: string | null): number | undefined {
  const value = Number(text);
  return text !== null && text !== "" && Number.isFinite(value) ? value : undefined;
}

export function readAddress(query: URLSearchParams): Shown {
  const shown: Shown = {
    opacity: Object.fromEntries(pairs(query.get("opacity")).map(([layer, value]) => [layer, Number(value) || 0])),
    style: Object.fromEntries(pairs(query.get("style"))),
    inverted: query.get("inverted") === "1",
  };
  if (query.has("on")) shown.on = query.get("on")!.split(",").filter(Boolean);
  const [run, map, colour, low, high] = ["run", "map", "colour", "low", "high"].map((name) => number(query.get(name)));
  if (run !== undefined) shown.prediction = run;
  if (map !== undefined) shown.cam = map;
  if (colour !== undefined) shown.colour = colour;
  if (low !== undefined && high !== undefined && high > low) shown.window = { low, high };
  const [x, y, zoom] = ["x", "y", "zoom"].map((name) => number(query.get(name)));
  if (x !== undefined && y !== undefined && zoom !== undefined && zoom > 0) shown.view = { x, y, zoom };
  return shown;
}

/** `query` without the parameters of the view. */
export function withoutView(query: URLSearchParams): URLSearchParams {
  const next = new URLSearchParams(query);
  for (const name of VIEW_PARAMETERS) next.delete(name);
  return next;
}

/** `query` with `shown` in place of the view that it had; all other parameters stay. */
export function withView(query: URLSearchParams, shown: Shown): URLSearchParams {
  const next = withoutView(query);
  const joined = (entries: Record<string, unknown>): string =>
    Object.entries(entries).map(([layer, value]) => `${layer}~${String(value)}`).join(",");
  if (shown.on) next.set("on", shown.on.join(","));
  if (Object.keys(shown.opacity).length) next.set("opacity", joined(shown.opacity));
  if (Object.keys(shown.style).length) next.set("style", joined(shown.style));
  if (shown.prediction !== undefined) next.set("run", String(shown.prediction));
  if (shown.cam !== undefined) next.set("map", String(shown.cam));
  if (shown.colour !== undefined) next.set("colour", String(shown.colour));
  if (shown.window) {
    next.set("low", String(shown.window.low));
    next.set("high", String(shown.window.high));
  }
  if (shown.inverted) next.set("inverted", "1");
  if (shown.view) {
    next.set("x", shown.view.x.toFixed(1));
    next.set("y", shown.view.y.toFixed(1));
    next.set("zoom", String(Number(shown.view.zoom.toPrecision(4))));
  }
  return next;
}

/** The address bar, and the links to other items, which open them as this one is seen. */
export class AddressBar {
  private timer = 0;

  constructor(
    private readonly address: () => string,
    private readonly linkAddress: (link: URL) => string,
  ) {}

  /** At most once in a while: browsers refuse more. */
  updateSoon(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.update(), 200);
  }

  update(): void {
    clearTimeout(this.timer);
    history.replaceState(null, "", this.address());
    for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-carry]")) {
      link.href = this.linkAddress(new URL(link.href));
    }
  }
}
