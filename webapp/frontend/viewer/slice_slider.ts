// Going through a stack: its slider, with the place of the slice in words, and the wheel turned with Shift.
import { integerText } from "../shared/numbers";

/** A touchpad sends many small turns: this much is one slice. */
const TURN = 40;

export class SliceSlider {
  private readonly box = document.querySelector<HTMLElement>("#slices")!;
  private readonly input = document.querySelector<HTMLInputElement>("#slice")!;
  private readonly words = document.querySelector<HTMLElement>("#slice-words")!;

  /** `choose` is called with the index of the slice that the reader moves to. */
  constructor(choose: (index: number) => void) {
    this.input.addEventListener("input", () => choose(Number(this.input.value) - 1));
  }

  /** `moveHandle` is false while the reader is on the way to another slice: the handle stays under the hand. */
  show(id: number, stack: readonly number[], { stacked, moveHandle }: { stacked: boolean; moveHandle: boolean }): void {
    this.box.hidden = !stacked;
    this.input.disabled = stack.length < 2;
    if (this.input.disabled) return;
    const place = stack.indexOf(id) + 1;
    this.input.max = String(stack.length);
    if (moveHandle) this.input.value = String(place);
    const words = `${integerText(place)} of ${integerText(stack.length)}`;
    this.words.textContent = words;
    this.input.setAttribute("aria-valuetext", words);
  }
}

/** `turn` is called with the direction of each slice; where `wanted` is false, the wheel zooms as usual. */
export function bindShiftWheel(stage: HTMLElement, wanted: () => boolean, turn: (by: number) => void): void {
  let turned = 0;
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.shiftKey || !wanted()) return;
      event.preventDefault();
      event.stopPropagation();
      // With Shift some systems turn the wheel sideways.
      const delta = (event.deltaY || event.deltaX) * (event.deltaMode ? TURN : 1);
      turned = Math.abs(delta) >= TURN ? Math.sign(delta) * TURN : turned + delta;
      if (Math.abs(turned) < TURN) return;
      turn(Math.sign(turned));
      turned = 0;
    },
    { capture: true, passive: false },
  );
}
