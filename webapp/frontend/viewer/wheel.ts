// Turning the wheel with Shift goes through a stack.

/** A touchpad sends many small turns: so much is one slice. */
const TURN = 40;

/** `turn` is told the direction of each slice; where `wanted` says no, the wheel does what it does otherwise. */
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
