// Presets: each fills the fields, what differs from it is marked and listed, what it overwrote can be had back.
import { labelOf, told, type Field } from "./fields";

type Texts = Record<string, string>;

export class Presets {
  private readonly presets: Record<string, Texts>;
  private readonly fields: Field[];
  private readonly overwritten: HTMLElement;
  private current: string;
  private before: { preset: string; texts: Texts } | undefined;

  constructor(private readonly form: HTMLFormElement) {
    this.presets = JSON.parse(document.querySelector("#presets")!.textContent) as Record<string, Texts>;
    this.fields = [...form.querySelectorAll<Field>("[data-field]")];
    this.overwritten = form.querySelector<HTMLElement>("#overwritten")!;
    this.current = this.chosen();
    this.overwritten.querySelector("button")!.addEventListener("click", () => this.undo());
  }

  /** Fills the fields from the preset that was just chosen, and offers back what a person had changed. */
  fill(): void {
    const changed = this.differing();
    const texts = Object.fromEntries(this.fields.map((field) => [field.name, field.value]));
    const lost = changed.filter((field) => this.wanted(field, this.chosen()) !== field.value.trim());
    const words = lost.map((field) => `${labelOf(field)} (${told(field, field.value)})`).join(", ");
    this.before = { preset: this.current, texts };
    this.current = this.chosen();
    for (const field of this.fields) field.value = this.wanted(field, this.current);
    const noun = lost.length === 1 ? "1 field that you had changed" : `${lost.length} fields that you had changed`;
    this.overwritten.hidden = lost.length === 0;
    this.overwritten.querySelector("span")!.textContent = `The preset ${this.current} has overwritten ${noun}: ${words}.`;
  }

  /** Marks the fields that differ from the preset, and lists them. */
  mark(): void {
    const differing = new Set(this.differing());
    for (const field of this.fields) {
      const note = this.form.querySelector<HTMLElement>(`[data-preset-value="${field.name}"]`);
      if (!note) continue;
      note.hidden = !differing.has(field);
      note.textContent = `${this.current}: ${told(field, this.wanted(field, this.current))}`;
    }
    const count = differing.size;
    const words = count ? `${count} field${count === 1 ? " differs" : "s differ"} from ${this.current}` : `as the preset ${this.current}`;
    this.form.querySelector("#changed")!.textContent = words;
    const list = this.form.querySelector<HTMLDetailsElement>("#differing")!;
    list.hidden = count === 0;
    list.querySelector("ul")!.replaceChildren(...[...differing].map((field) => this.line(field)));
  }

  private undo(): void {
    if (!this.before) return;
    this.form.querySelector<HTMLInputElement>(`[name="preset"][value="${this.before.preset}"]`)!.checked = true;
    for (const field of this.fields) field.value = this.before.texts[field.name] ?? field.value;
    this.current = this.before.preset;
    this.before = undefined;
    this.overwritten.hidden = true;
    this.form.querySelector<HTMLInputElement>('[name="preset"]:checked')!.focus();
    this.form.dispatchEvent(new Event("change", { bubbles: true }));
  }

  private line(field: Field): HTMLLIElement {
    const [line, link] = [document.createElement("li"), document.createElement("a")];
    link.href = `#field-${field.name}`;
    link.textContent = labelOf(field);
    line.append(link, `: ${told(field, field.value)}, ${this.current}: ${told(field, this.wanted(field, this.current))}`);
    return line;
  }

  private differing(): Field[] {
    return this.fields.filter((field) => !field.closest(".idle") && field.value.trim() !== this.wanted(field, this.current));
  }

  private wanted(field: Field, preset: string): string {
    return this.presets[preset]?.[field.name] ?? "";
  }

  private chosen(): string {
    return new FormData(this.form).get("preset") as string;
  }
}
