// Keys act outside fields only, and single ones not at all where the reader has turned them off.
const SETTING = "single-keys";

export function singleKeysWanted(): boolean {
  return localStorage.getItem(SETTING) !== "off";
}

function inField(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));
}

/** Calls `actions[key]` when that key is pressed alone. Returns a function that undoes the binding. */
export function bindKeys(actions: Record<string, () => void>): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || inField(event.target) || !singleKeysWanted()) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  };
  document.addEventListener("keydown", listen);
  return () => document.removeEventListener("keydown", listen);
}

export function bindFrameKeys(): void {
  const box = document.querySelector<HTMLInputElement>("#single-keys");
  if (!box) return;
  box.checked = singleKeysWanted();
  box.addEventListener("change", () => localStorage.setItem(SETTING, box.checked ? "on" : "off"));

  const project = document.body.dataset["project"];
  const places: Record<string, string | undefined> = { h: "/", q: "/queue/", p: project };
  let waiting = 0;
  document.addEventListener("keydown", (event) => {
    if (Date.now() - waiting < 1500 && !inField(event.target) && places[event.key]) location.assign(places[event.key]!);
    waiting = 0;
  });
  bindKeys({
    g: () => void setTimeout(() => (waiting = Date.now())),
    "/": () => document.querySelector<HTMLInputElement>("#search")?.focus(),
    "?": () => document.querySelector<HTMLElement>("#keys")?.togglePopover(),
    n: () => document.querySelector<HTMLAnchorElement>("a[data-new-job]")?.click(),
  });
}
