// Fields that have no effect beside the others, as the server says with each preflight: out of sight, with what stands in
// them kept; where an input says the value, that is said instead.

export function markIdle(form: HTMLFormElement): void {
  const idle = JSON.parse(form.querySelector<HTMLElement>("#idle")!.dataset["fields"]!) as Record<string, string>;
  for (const field of form.querySelectorAll<HTMLElement>('.field[id^="field-"]')) {
    const from = idle[field.id];
    field.classList.toggle("idle", from !== undefined);
    const note = field.querySelector<HTMLElement>(".taken");
    if (!note) continue;
    note.hidden = !from;
    if (from) note.textContent = from;
  }
  const more = form.querySelectorAll(".more > .field:not(.idle)").length;
  form.querySelector("#advanced-count")!.textContent = String(more);
}
