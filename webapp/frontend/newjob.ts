// The form of a new job: presets fill the fields, what has no effect goes out of sight, each change is weighed before
// anything runs.
import "./styles/newjob.css";
import htmx from "htmx.org";
import { offerValues } from "./newjob/fields";
import { markIdle } from "./newjob/inactive_fields";
import { Presets } from "./newjob/presets";

const form = document.querySelector<HTMLFormElement>("#job-form")!;
const presets = new Presets(form);

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
  const changed = event.target;
  if (changed instanceof HTMLSelectElement && "alternative" in changed.dataset) emptyOthers(changed);
  if (changed instanceof HTMLSelectElement && changed.dataset["takes"] === "revision") matchColour();
  if (changed instanceof HTMLSelectElement && "slot" in changed.dataset) offerValues(form);
  if (changed instanceof HTMLInputElement && changed.name === "preset") presets.fill();
  presets.mark();
  void htmx.ajax("POST", form.dataset["preflight"]!, { source: form, target: "#preflight", swap: "innerMorph" });
});
form.addEventListener("input", () => presets.mark());
document.addEventListener("htmx:after:swap", () => {
  markIdle(form);
  presets.mark();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

// A link to a field, on top or among what differs, opens what folds it away and lands in the field itself.
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest<HTMLAnchorElement>('a[href^="#field-"]') : null;
  if (!link) return;
  event.preventDefault();
  const field = document.querySelector<HTMLElement>(`${link.getAttribute("href")} :is(input, select)`);
  field?.closest("details")?.setAttribute("open", "");
  field?.focus();
});
presets.mark();
document.querySelector<HTMLElement>("#refusals")?.focus();
