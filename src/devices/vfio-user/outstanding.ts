/** Calls that may wait for a reply. */
export const mostOutstanding = 256;

/** Beside them, of those that take an irq away, or give one: of a device they are made one at a time, and what a call has made must go also when there is no room for another. */
export const mostIrqCalls = 16;

/** Twice as many, so that a call that waits for long is passed over and not waited for. A power of two. */
const places = 512;

/** What waits for a reply, by the id of its message: the ids follow one another, so the next call seldom finds its place taken. */
export class Outstanding<T> {
  readonly #calls: (T | undefined)[] = Array.from({ length: places }, () => undefined);
  readonly #ids = new Uint16Array(places);
  #next = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The id of the next call, which need not be made. There is one while fewer than `mostOutstanding` and `mostIrqCalls` wait. */
  nextId(): number {
    while (this.#calls[this.#next & (places - 1)] !== undefined) this.#next = (this.#next + 1) & 0xffff;
    return this.#next;
  }

  add(id: number, call: T): void {
    this.#calls[id & (places - 1)] = call;
    this.#ids[id & (places - 1)] = id;
    this.#next = (id + 1) & 0xffff;
    this.#size += 1;
  }

  get(id: number): T | undefined {
    return this.#ids[id & (places - 1)] === id ? this.#calls[id & (places - 1)] : undefined;
  }

  delete(id: number): void {
    this.#calls[id & (places - 1)] = undefined;
    this.#size -= 1;
  }

  /** All of them, the oldest first; none is left. */
  drain(): readonly T[] {
    const age = (id: number): number => (this.#next - id) & 0xffff;
    const waiting = this.#calls.flatMap((call, place) => (call === undefined ? [] : [{ call, age: age(this.#ids[place] ?? 0) }]));
    this.#calls.fill(undefined);
    this.#size = 0;
    return waiting.sort((a, b) => b.age - a.age).map(({ call }) => call);
  }
}
