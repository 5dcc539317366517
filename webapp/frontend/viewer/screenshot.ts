// The view to keep and to pass on: as a picture of what is on the screen, its window and scale written below, and as an
// address.
import type { Bar } from "./scalebar";

const MARGIN = 12;
const LINE = 16;

export async function picture(
  image: CanvasImageSource & { width: number; height: number },
  overlay: HTMLCanvasElement,
  caption: string,
  bar: Bar | null,
): Promise<Blob> {
  const ratio = devicePixelRatio;
  const { width, height } = overlay;
  const foot = (LINE + 2 * MARGIN) * ratio;
  const canvas = new OffscreenCanvas(width, height + foot);
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#1c1c1c";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0, width, height);
  context.drawImage(overlay, 0, 0);
  context.fillStyle = "#ffffff";
  context.fillRect(0, height, width, foot);
  context.fillStyle = "#000000";
  context.font = `${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const middle = height + foot / 2;
  let left = MARGIN * ratio;
  if (bar) {
    context.fillRect(left, middle - 3 * ratio, bar.width * ratio, 6 * ratio);
    left += (bar.width + 8) * ratio;
    context.fillText(bar.label, left, middle);
    left += context.measureText(bar.label).width + 2 * MARGIN * ratio;
  }
  context.fillText(caption, left, middle, width - left - MARGIN * ratio);
  return canvas.convertToBlob({ type: "image/png" });
}

/** Hands the browser a file to keep. */
export function saveAs(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** Copies `address`; the button Copy view says so for a while. */
export async function copyAddress(address: string, button: HTMLButtonElement): Promise<void> {
  try {
    await navigator.clipboard.writeText(address);
    button.textContent = "Copied";
  } catch {
    // Outside https and loopback there is no clipboard; the address bar holds the same.
    button.textContent = "It is in the address bar";
  }
  setTimeout(() => (button.textContent = "Copy view"), 2000);
}
