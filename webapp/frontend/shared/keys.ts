// Keys act outside fields only, and single ones not at all where the reader has turned them off.
const SETTING = "single-keys";

export function singleKeysWanted(): boolean {
  return localStorage.getItem(SETTING) !== "off";
}

/** Whether this key press is a shortcut: alone, outside of fields, and not switched off. */
function isShortcut(event: KeyboardEvent): boolean {
  return !event.ctrlKey && !event.metaKey && !event.altKey && !inField(event.target) && singleKeysWanted();
}

function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));
}

/** Calls `actions[key]` when that key is pressed alone. Returns a function that undoes the binding. */
export function bindKeys(actions: Record<string, () => void>): () => void {
  const handle = (event: KeyboardEvent): void => {
    if (!isShortcut(event)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", handle);
  return () => document.removeEventListener("keydown", handle);
}

/** The chosen row is kept by its id: a refresh brings the same rows anew, and in another order where jobs were moved. */
let chosen = "";

function rows(): HTMLElement[] {
  return [...document.querySelectorAll<HTMLElement>("table.jobs tbody tr")];
}

function chosenRow(): HTMLElement | undefined {
  return rows().find((row) => row.id === chosen);
}

function markChosen(): void {
  for (const row of rows()) row.classList.toggle("chosen", row.id === chosen);
}

function moveAlongRows(by: 1 | -1): void {
  const all = rows();
  const now = chosenRow();
  const next = all[now ? all.indexOf(now) + by : 0];
  if (!next) return;
  chosen = next.id;
  markChosen();
  next.scrollIntoView({ block: "nearest" });
}

/** Shift and an arrow press the button of the chosen row that moves its job in the queue. */
function bindQueueMoves(): void {
  const where: Record<string, string> = { ArrowUp: "up", ArrowDown: "down" };
  document.addEventListener("keydown", (event) => {
    const to = event.shiftKey && isShortcut(event) ? where[event.key] : undefined;
    const button = to && chosenRow()?.querySelector<HTMLButtonElement>(`button[name="where"][value="${to}"]`);
    if (!button) return;
    event.preventDefault();
    button.click();
  });
}

export function bindFrameKeys(): void {
  const box = document.querySelector<HTMLInputElement>("#single-keys");
  if (!box) return;
  box.checked = singleKeysWanted();
  box.addEventListener("change", () => localStorage.setItem(SETTING, box.checked ? "on" : "off"));

  const project = document.body.dataset["project"];
  const places: Record<string, string | undefined> = { h: "/", q: "/queue/", p: project };
  // `g` and then a place. The moment of `g` is taken from its own event, so that a key right after it is never too early.
  let prefixedAt = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (!isShortcut(event)) return;
    const place = event.timeStamp - prefixedAt < 1500 ? places[event.key] : undefined;
    prefixedAt = event.key === "g" ? event.timeStamp : -Infinity;
    if (place) location.assign(place);
  });
  bindKeys({
    "/": () => document.querySelector<HTMLInputElement>("#search")?.focus(),
    "?": () => document.querySelector<HTMLElement>("#keys")?.togglePopover(),
    j: () => moveAlongRows(1),
    k: () => moveAlongRows(-1),
    o: () => chosenRow()?.querySelector<HTMLAnchorElement>("a")?.click(),
  });
  bindQueueMoves();
  document.addEventListener("htmx:after:swap", markChosen);
  // A button that names its key: <a data-key="n">.
  document.addEventListener("keydown", (event) => {
    if (!isShortcut(event)) return;
    if (/^[a-z]$/.test(event.key)) document.querySelector<HTMLElement>(`[data-key="${event.key}"]`)?.click();
  });
}
