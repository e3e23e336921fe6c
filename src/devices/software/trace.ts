/**
 * What the driver saw, in the order in which it saw it: a test proves its claims from this side. The words are those of the
 * kernel's sample driver, so that one reader serves both.
 */

export type TraceWord =
  | 'open' | 'close' | 'reset' | 'register' | 'unregister' | 'query' | 'mmap' | 'munmap' | 'layout'
  | 'signal' | 'wait' | 'ack' | 'release' | 'state' | 'violation';

/** One line of the trace. The fields of each word; `offset` and `size` are hexadecimal (`0x1000`), other numbers decimal:
 *
 * | event | fields |
 * |---|---|
 * | `open`, `close`, `reset` | |
 * | `register`, `unregister` | `role`: `trigger`, `ack` or `msi` |
 * | `query` | `region` |
 * | `mmap`, `munmap` | `region`, `offset`, `size` |
 * | `layout` | `region`, `mmap`: 1 where something is offered, else 0 |
 * | `signal` | `add` |
 * | `wait` | `target`: the sum that must have come back; -1 while its signal is held back |
 * | `ack` | `value` |
 * | `release` | `ret`: 0 or a negative errno; the wait has ended |
 * | `state` | `from`, `to`, `ret`: the write of device_state returns |
 * | `violation` | `kind`, and what it concerns |
 */
export interface TraceEvent {
  /** From 1, without gaps: a gap says that the ring was too small. */
  readonly seq: number;
  readonly atNs: bigint;
  readonly event: TraceWord;
  readonly fields: Readonly<Record<string, string>>;
}

/** A ring: the oldest events make room. */
export class Trace {
  readonly #capacity: number;
  readonly #now: () => bigint;
  #events: TraceEvent[] = [];
  #seq = 0;

  constructor(capacity: number, now: () => bigint) {
    this.#capacity = capacity;
    this.#now = now;
  }

  add(event: TraceWord, fields: Readonly<Record<string, string | number | bigint>> = {}): void {
    this.#seq += 1;
    const text: Record<string, string> = {};
    for (const name in fields) text[name] = String(fields[name]);
    this.#events.push({ seq: this.#seq, atNs: this.#now(), event, fields: text });
    // In halves, so that a long run does not shift the whole array at every event.
    if (this.#events.length >= 2 * this.#capacity) this.#events = this.#events.slice(-this.#capacity);
  }

  get events(): readonly TraceEvent[] {
    return this.#events.slice(-this.#capacity);
  }
}
