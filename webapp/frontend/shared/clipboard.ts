// Buttons that put a text on the clipboard: `data-copy` holds it, `data-copy-from` is the address to fetch it from.
const MESSAGE_MS = 2000;
const busy = new WeakSet<HTMLElement>();

async function textOf(button: HTMLElement): Promise<Blob> {
  const address = button.dataset["copyFrom"];
  if (!address) return new Blob([button.dataset["copy"] ?? ""], { type: "text/plain" });
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
  return new Blob([await answer.text()], { type: "text/plain" });
}

async function copy(button: HTMLElement): Promise<void> {
  busy.add(button);
  const words = button.textContent;
  try {
    // The promise itself is handed over: after an await, Safari no longer counts this as done by the click.
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": textOf(button) })]);
    button.textContent = "Copied";
  } catch {
    // Outside https and loopback a page has no clipboard.
    button.textContent = "Not copied: the browser does not allow it here";
  }
  setTimeout(() => {
    button.textContent = words;
    busy.delete(button);
  }, MESSAGE_MS);
}

/** Listens once for all such buttons, those that come later included. */
export function bindCopying(): void {
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy], [data-copy-from]");
    if (button && !busy.has(button)) void copy(button);
  });
}
