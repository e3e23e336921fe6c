/** Drives one of the two machines of a handover: does the acts of a step in their order, then takes what came of them. */
export class Handover<Phase extends string, Event extends string, Act> {
  readonly #step: (phase: Phase, event: Event) => { readonly phase: Phase; readonly acts: readonly Act[] };
  readonly #perform: (act: Act) => void;
  readonly #events: Event[] = [];
  #phase: Phase;
  #busy = false;

  constructor(initial: Phase, step: (phase: Phase, event: Event) => { readonly phase: Phase; readonly acts: readonly Act[] }, perform: (act: Act) => void) {
    this.#phase = initial;
    this.#step = step;
    this.#perform = perform;
  }

  get phase(): Phase {
    return this.#phase;
  }

  post(event: Event): void {
    this.#events.push(event);
    if (this.#busy) return;
    this.#busy = true;
    for (let next = this.#events.shift(); next !== undefined; next = this.#events.shift()) {
      const { phase, acts } = this.#step(this.#phase, next);
      this.#phase = phase;
      for (const act of acts) this.#perform(act);
    }
    this.#busy = false;
  }
}
