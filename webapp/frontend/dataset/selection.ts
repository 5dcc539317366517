// Choosing images of the grid: by box, by key, by range, or all that match; the buttons above act on what is chosen.
import { integerText } from "../shared/numbers";

function form(): HTMLFormElement | null {
  return document.querySelector<HTMLFormElement>("#edit");
}

function boxes(): HTMLInputElement[] {
  return [...document.querySelectorAll<HTMLInputElement>('#grid input[name="item"]')];
}

let last: HTMLInputElement | null = null;

/** Shows how many are chosen, and the actions on them only where there are some. */
export function showChosen(): void {
  const words = document.querySelector<HTMLElement>("#chosen-words");
  if (!words) return;
  const all = document.querySelector<HTMLInputElement>("#choose-all")!.checked;
  const chosen = boxes().filter((box) => box.checked).length;
  const some = chosen ? `${integerText(chosen)} chosen` : "Choose images to change them.";
  words.textContent = all ? "All matching images are chosen." : some;
  document.querySelector("#grid")!.classList.toggle("choosing", all || chosen > 0);
  for (const button of document.querySelectorAll<HTMLButtonElement>("#bulk [data-needs]")) button.hidden = !all && !chosen;
  for (const button of document.querySelectorAll<HTMLButtonElement>("#bulk [data-none]")) button.hidden = all || chosen > 0;
}

function choose(box: HTMLInputElement, withRange: boolean): void {
  const all = boxes();
  if (withRange && last && all.includes(last)) {
    const [from, to] = [all.indexOf(last), all.indexOf(box)].sort((a, b) => a - b) as [number, number];
    for (const each of all.slice(from, to + 1)) each.checked = box.checked;
  }
  last = box;
  showChosen();
}

/** Keeps what is chosen while the parts of the page are loaded again; the function returned restores it. */
export function keepChosen(): () => void {
  const values = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  const all = document.querySelector<HTMLInputElement>("#choose-all")?.checked ?? false;
  return () => {
    for (const box of boxes()) box.checked = values.has(box.value);
    const choice = document.querySelector<HTMLInputElement>("#choose-all");
    if (choice) choice.checked = all;
    showChosen();
  };
}

/** Changes the box of the image that has the focus. */
export function toggleFocused(): void {
  const box = document.activeElement?.closest("li")?.querySelector<HTMLInputElement>('input[name="item"]');
  if (!box) return;
  box.checked = !box.checked;
  choose(box, false);
}

export function bindSelection(): void {
  document.addEventListener("click", (event) => {
    const target = event.target as HTMLElement;
    if (target.matches('#grid input[name="item"]')) choose(target as HTMLInputElement, event.shiftKey);
    else if (target.matches("#choose-all")) {
      for (const box of boxes()) box.checked = (target as HTMLInputElement).checked;
      showChosen();
    }
  });
  // Enter in a field of a popover presses the button of that popover.
  document.addEventListener("keydown", (event) => {
    const field = event.target as HTMLElement;
    if (event.key !== "Enter" || !form()?.contains(field) || !field.matches("input")) return;
    const button = field.closest("[popover]")?.querySelector<HTMLButtonElement>("button.primary");
    if (!button) return;
    event.preventDefault();
    button.click();
  });
  showChosen();
}
