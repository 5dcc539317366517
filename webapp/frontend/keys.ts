// Keys act outside fields only, and single ones not at all where the reader has turned them off.
const SETTING = "single-keys";

export function singleKeysWanted(): boolean {
  return localStorage.getItem(SETTING) !== "off";
}

/** Whether this key press is one of ours: alone, outside of fields, and wanted. */
function isOurs(event: KeyboardEvent): boolean {
  return !event.ctrlKey && !event.metaKey && !event.altKey && !inField(event.target) && singleKeysWanted();
}

function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));
}

/** Calls `actions[key]` when that key is pressed alone. Returns a function that undoes the binding. */
export function bindKeys(actions: Record<string, () => void>): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (!isOurs(event)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

function chosenRow(): HTMLElement | null {
  return document.querySelector<HTMLElement>("table.jobs tr.chosen");
}

function moveAlongRows(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>("table.jobs tbody tr")];
  const now = chosenRow();
  const next = rows[now ? rows.indexOf(now) + by : 0];
  if (!next) return;
  now?.classList.remove("chosen");
  next.classList.add("chosen");
  next.scrollIntoView({ block: "nearest" });
}

export function bindFrameKeys(): void {
  const box = document.querySelector<HTMLInputElement>("#single-keys");
  if (!box) return;
  box.checked = singleKeysWanted();
  box.addEventListener("change", () => localStorage.setItem(SETTING, box.checked ? "on" : "off"));

  const project = document.body.dataset["project"];
  const places: Record<string, string | undefined> = { h: "/", q: "/queue/", p: project };
  // `g` and then a place. The moment of `g` is taken from its own event, so that a key right after it is never too early.
  let led = -Infinity;
  document.addEventListener("keydown", (event) => {
    if (!isOurs(event)) return;
    const place = event.timeStamp - led < 1500 ? places[event.key] : undefined;
    led = event.key === "g" ? event.timeStamp : -Infinity;
    if (place) location.assign(place);
  });
  bindKeys({
    "/": () => document.querySelector<HTMLInputElement>("#search")?.focus(),
    "?": () => document.querySelector<HTMLElement>("#keys")?.togglePopover(),
    j: () => moveAlongRows(1),
    k: () => moveAlongRows(-1),
    o: () => chosenRow()?.querySelector<HTMLAnchorElement>("a")?.click(),
  });
  // A button that names its key: <a data-key="n">.
  document.addEventListener("keydown", (event) => {
    if (!isOurs(event)) return;
    if (/^[a-z]$/.test(event.key)) document.querySelector<HTMLElement>(`[data-key="${event.key}"]`)?.click();
  });
}
