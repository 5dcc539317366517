// The panels of a sheet, cut out of its picture by where its facts say that they lie, with their words beside them: the
// words in the picture itself shrink with it.

interface Strip {
  start: number;
  length: number;
  words: string;
}

interface Panels {
  size: [number, number];
  rows: Strip[];
  columns: Strip[];
}

const SVG = "http://www.w3.org/2000/svg";

/** Where the panels of a picture lie, by the facts of its artifact; null for older pictures without such facts. */
function panelsOf(facts: Record<string, unknown>): Panels | null {
  const found = facts["panels"] as Partial<Panels> | undefined;
  return found?.size && found.rows?.length && found.columns?.length ? (found as Panels) : null;
}

/** A sheet as one image, or as its rows of panels where their places are known. `words` stand for the picture. */
export function sheetOf(url: string, facts: Record<string, unknown>, words: string): HTMLElement[] {
  const panels = panelsOf(facts);
  if (!panels) {
    return [Object.assign(new Image(), { src: url, alt: words })];
  }
  const headed = panels.columns.some((column) => column.words);
  const rows = panels.rows.map((row) => rowOf(url, panels, row));
  return headed ? [headings(panels), ...rows] : rows;
}

function headings({ columns }: Panels): HTMLElement {
  const line = Object.assign(document.createElement("div"), { className: "headings" });
  line.style.gridTemplateColumns = columns.map((column) => `${column.length}fr`).join(" ");
  for (const { words } of columns) line.append(Object.assign(document.createElement("span"), { textContent: words, title: words }));
  return line;
}

function rowOf(url: string, panels: Panels, row: Strip): HTMLElement {
  const line = Object.assign(document.createElement("div"), { className: "panel-row" });
  const panes = Object.assign(document.createElement("div"), { className: "panes" });
  panes.style.gridTemplateColumns = panels.columns.map((column) => `${column.length}fr`).join(" ");
  for (const column of panels.columns) panes.append(pane(url, panels.size, row, column));
  line.append(panes);
  if (row.words) line.append(Object.assign(document.createElement("span"), { className: "caption", textContent: row.words }));
  return line;
}

function pane(url: string, [width, height]: [number, number], row: Strip, column: Strip): SVGElement {
  const cut = document.createElementNS(SVG, "svg");
  cut.setAttribute("viewBox", `${column.start} ${row.start} ${column.length} ${row.length}`);
  cut.setAttribute("role", "img");
  cut.setAttribute("aria-label", [row.words, column.words].filter(Boolean).join(", "));
  const image = document.createElementNS(SVG, "image");
  for (const [name, value] of Object.entries({ href: url, width, height })) image.setAttribute(name, String(value));
  cut.append(image);
  return cut;
}
