// The form's fields and pickers, and how a value is said.
export type Field = HTMLInputElement | HTMLSelectElement;

/** The pickers of inputs in which something is chosen, with what it is. */
export function chosenOptions(form: HTMLFormElement): [HTMLSelectElement, HTMLOptionElement][] {
  return [...form.querySelectorAll<HTMLSelectElement>("select[data-slot]")]
    .filter((select) => select.value)
    .map((select) => [select, select.selectedOptions[0]!]);
}

/** As a person reads it: a choice's label, the word that a value stands for, the unit where there is one. */
export function told(field: Field, value: string): string {
  if (field instanceof HTMLSelectElement) return [...field.options].find((o) => o.value === value)?.text ?? (value || "-");
  const words = JSON.parse(field.dataset["words"] ?? "{}") as Record<string, string>;
  if (value in words) return words[value]!;
  const unit = field.parentElement?.querySelector(".unit")?.textContent ?? "";
  return value ? `${value} ${unit}`.trim() : "-";
}

/** What the field is called on the page. */
export function labelOf(field: Field): string {
  return field.labels?.[0]?.textContent ?? field.name;
}

/** Offers in pickers whose values come from the inputs what the chosen ones have; what they lack is let go of. */
export function offerValues(form: HTMLFormElement): void {
  const offered = chosenOptions(form).map(([, option]) => JSON.parse(option.dataset["values"]!) as Record<string, string[]>);
  for (const select of form.querySelectorAll<HTMLSelectElement>("select[data-source]")) {
    const source = select.dataset["source"]!;
    const values = [...new Set(offered.flatMap((of) => of[source] ?? []))];
    const kept = values.includes(select.value) ? select.value : "";
    select.replaceChildren(select.options[0]!, ...values.map((value) => new Option(value, value)));
    select.value = kept;
  }
}
