// Fields that have no effect beside the others, by the same rules as the server (ml_core/specs/inactive_fields.py): out of sight,
// with what stands in them kept; where an input says the value, that is said instead.
import { chosenOptions, type Field } from "./fields";

interface Rule {
  fields: Record<string, string[]>;
  given: string[];
  absent: string[];
  taken: boolean;
}

export function markIdle(form: HTMLFormElement): void {
  const values = new Map([...form.querySelectorAll<Field>("[data-field]")].map((field) => [field.name, field.value.trim()]));
  const chosen = new Map(chosenOptions(form).map(([select, option]) => [select.dataset["slot"]!, option]));
  const given = new Set([...chosen.keys(), ...[...chosen.values()].flatMap((option) => option.dataset["gives"]!.split(" "))]);

  const holds = (rule: Rule): boolean =>
    (rule.given.length === 0 || rule.given.some((name) => given.has(name))) &&
    !rule.absent.some((name) => given.has(name)) &&
    Object.entries(rule.fields).every(([name, wanted]) => wanted.includes(values.get(name) ?? ""));

  // In the order of the form: a field that itself has no effect leaves none to its value, and rules look further up.
  for (const field of form.querySelectorAll<HTMLElement>("[data-idle]")) {
    const rule = (JSON.parse(field.dataset["idle"]!) as Rule[]).find(holds);
    field.classList.toggle("idle", rule !== undefined);
    const input = field.querySelector<Field>("[data-field]");
    if (rule && input) values.delete(input.name);
    sayWhereFrom(field, rule?.taken ? rule.given.map((slot) => chosen.get(slot)).find((option) => option) : undefined);
  }
  const more = form.querySelectorAll(".more > .field:not(.idle)").length;
  form.querySelector("#advanced-count")!.textContent = String(more);
}

function sayWhereFrom(field: HTMLElement, option: HTMLOptionElement | undefined): void {
  const note = field.querySelector<HTMLElement>(".taken");
  if (!note) return;
  note.hidden = option === undefined;
  if (option) note.textContent = option.dataset["says"]!;
}
