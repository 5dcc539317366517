// Canvas knows no custom properties: reads the tokens as the colours that they are in the theme of now.
export function token(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

/** Calls `action` whenever the theme changes, by the page's switch or by the system. */
export function onThemeChange(action: () => void): void {
  document.addEventListener("theme", action);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", action);
}
