// One line of the list of uploads, and the line that stands for all of them.

function partOf<E extends HTMLElement>(element: HTMLElement, part: string): E {
  return element.querySelector<E>(`[data-part="${part}"]`)!;
}

export class Row {
  private readonly words: HTMLElement;
  private readonly progress: HTMLProgressElement;
  readonly pause: HTMLButtonElement;

  constructor(readonly element: HTMLElement) {
    this.words = partOf(element, "words");
    this.progress = partOf(element, "progress");
    this.pause = partOf(element, "pause");
  }

  /** A new line at the end of `list`. */
  static added(list: HTMLElement, template: HTMLTemplateElement, name: string): Row {
    const element = (template.content.cloneNode(true) as DocumentFragment).firstElementChild as HTMLElement;
    partOf(element, "name").textContent = name;
    list.append(element);
    const row = new Row(element);
    row.progress.setAttribute("aria-label", `Progress of ${name}`);
    return row;
  }

  get discard(): HTMLButtonElement {
    return partOf(this.element, "discard");
  }

  show(words: string, done?: number, total?: number): void {
    this.element.classList.remove("trouble");
    this.words.textContent = words;
    this.progress.hidden = !total;
    if (total) {
      this.progress.max = total;
      this.progress.value = done ?? 0;
    }
  }

  /** Shows a sentence that asks the reader to act. */
  showProblem(words: string): void {
    this.show(words);
    this.element.classList.add("trouble");
  }

  /** Shows the button as one that resumes, under the name `resume`, or as one that pauses. */
  setPaused(resume: string | null, pause = "Pause"): void {
    this.pause.setAttribute("aria-pressed", String(resume !== null));
    this.pause.textContent = resume ?? pause;
  }
}
