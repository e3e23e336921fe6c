import type { Violation, ViolationKind } from './driver-face.js';
import type { Trace } from './trace.js';

/** How many violations are kept; all are counted. */
const kept = 256;

/** What a violation concerned, where it concerned something. */
export interface Concerned {
  readonly region?: number;
  readonly offset?: number;
  readonly value?: bigint;
}

/** What the user did wrong, as the driver found it. */
export class Violations {
  readonly #trace: Trace;
  readonly #nowNs: () => bigint;
  readonly #list: Violation[] = [];
  count = 0;

  constructor(trace: Trace, nowNs: () => bigint) {
    this.#trace = trace;
    this.#nowNs = nowNs;
  }

  add(kind: ViolationKind, concerned: Concerned): void {
    this.count += 1;
    this.#trace.add('violation', { kind, ...concerned });
    this.#list.push({ kind, atNs: this.#nowNs(), ...concerned });
    if (this.#list.length > kept) this.#list.shift();
  }

  get list(): readonly Violation[] {
    return [...this.#list];
  }
}
