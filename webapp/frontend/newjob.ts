// The form of a new job: presets fill the fields, each change is marked and weighed before anything runs.
import "./newjob.css";
import htmx from "htmx.org";

type Texts = Record<string, string>;
type Field = HTMLInputElement | HTMLSelectElement;

const form = document.querySelector<HTMLFormElement>("#job-form")!;
const presets = JSON.parse(document.querySelector("#presets")!.textContent) as Record<string, Texts>;
const fields = [...form.querySelectorAll<Field>("[data-field]")];

function preset(): string {
  return new FormData(form).get("preset") as string;
}

function label(field: Field, value: string): string {
  if (field instanceof HTMLSelectElement) return [...field.options].find((o) => o.value === value)?.text ?? value;
  return value || "empty";
}

function markChanges(): void {
  const name = preset();
  let changed = 0;
  for (const field of fields) {
    const wanted = presets[name]?.[field.name] ?? "";
    const differs = field.value.trim() !== wanted;
    const note = form.querySelector<HTMLElement>(`[data-preset-value="${field.name}"]`);
    if (note) {
      note.hidden = !differs;
      note.textContent = `${name}: ${label(field, wanted)}`;
    }
    if (differs) changed += 1;
  }
  const words = changed === 0 ? `as the preset ${name}` : `${changed} field${changed === 1 ? " differs" : "s differ"} from ${name}`;
  document.querySelector("#changed")!.textContent = words;
}

function fillFromPreset(): void {
  for (const field of fields) field.value = presets[preset()]?.[field.name] ?? field.value;
}

/** Colour planes belong to one revision: chooses those of the dataset that was just chosen. */
function matchColour(): void {
  const dataset = form.querySelector<HTMLSelectElement>('[data-takes="revision"]');
  const colour = form.querySelector<HTMLSelectElement>('[data-takes="colour"]');
  const revision = dataset?.selectedOptions[0]?.dataset["revision"];
  if (!colour || colour.disabled || colour.selectedOptions[0]?.dataset["revision"] === revision) return;
  const fitting = [...colour.options].find((option) => revision && option.dataset["revision"] === revision);
  colour.value = fitting?.value ?? "";
}

/** Of inputs that stand for each other a job takes one: the one that was just chosen. */
function emptyOthers(chosen: HTMLSelectElement): void {
  if (!chosen.value) return;
  for (const other of form.querySelectorAll<HTMLSelectElement>("select[data-alternative]")) {
    if (other !== chosen && !other.disabled) other.value = "";
  }
}

form.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement && "alternative" in event.target.dataset) emptyOthers(event.target);
  if (event.target instanceof HTMLSelectElement && event.target.dataset["takes"] === "revision") matchColour();
  if (event.target instanceof HTMLInputElement && event.target.name === "preset") fillFromPreset();
  markChanges();
  void htmx.ajax("POST", form.dataset["preflight"]!, { source: form, target: "#preflight", swap: "innerMorph" });
});
form.addEventListener("input", markChanges);
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

for (const link of document.querySelectorAll<HTMLAnchorElement>('#refusals a[href^="#field-"]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const field = document.querySelector<HTMLElement>(`${link.getAttribute("href")} :is(input, select)`);
    field?.closest("details")?.setAttribute("open", "");
    field?.focus();
  });
}
markChanges();
document.querySelector<HTMLElement>("#refusals")?.focus();
