// Colours for canvas, which knows no custom properties: the tokens of the stylesheet, in the present theme.
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
