import type { TraceLine } from './witness.js';

/** A driver keeps its latest events only: this keeps all, if it is asked often enough, and says so if it was not. */
export class TraceLog {
  readonly #lines: TraceLine[] = [];
  #missed = 0;

  /** Adds what is new. */
  collect(latest: readonly TraceLine[]): void {
    const last = this.#lines.at(-1)?.seq;
    const fresh = last === undefined ? latest : latest.filter(({ seq }) => seq > last);
    const first = fresh[0];
    if (last !== undefined && first !== undefined) this.#missed += first.seq - last - 1;
    this.#lines.push(...fresh);
  }

  get lines(): readonly TraceLine[] {
    return this.#lines;
  }

  /** How many events were gone before they were asked for. */
  get missed(): number {
    return this.#missed;
  }
}
