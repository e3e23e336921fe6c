import { Observable, type Subscriber } from 'rxjs';

/**
 * A current value that does not glitch (law 7). A set made while another is being delivered waits its turn, so that every
 * subscriber sees every value in the same order, and `current` is what was last delivered. (A BehaviorSubject nests such
 * sets: its second subscriber sees 0, 2, 1 while the value is 2.)
 *
 * ```
 * set     --a------(bc)-      b's delivery sets c
 * first   i-a------(bc)-
 * second  i-a------(bc)-
 * late        a----(bc)-
 * ```
 */
export class Cell<T extends object | string | number | bigint | boolean> {
  readonly #subscribers = new Set<Subscriber<T>>();
  readonly #waiting: T[] = [];
  #current: T;
  #delivering = false;
  /** The owner is closed: no more values. */
  #closed = false;
  #complete = false;

  constructor(initial: T) {
    this.#current = initial;
  }

  get current(): T {
    return this.#current;
  }

  /** Emits the current value at once, then every later one; completes when the owner is closed. */
  readonly values: Observable<T> = new Observable<T>((subscriber) => {
    subscriber.next(this.#current);
    if (this.#complete) {
      subscriber.complete();
      return undefined;
    }
    this.#subscribers.add(subscriber);
    return () => this.#subscribers.delete(subscriber);
  });

  set(value: T): void {
    if (this.#closed) return;
    this.#waiting.push(value);
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      for (let next = this.#waiting.shift(); next !== undefined; next = this.#waiting.shift()) this.#deliver(next);
    } finally {
      this.#delivering = false;
      this.#waiting.length = 0;
      this.#end();
    }
  }

  /** Made while a value is being delivered it waits its turn as well: nobody misses a value because somebody else closed. */
  complete(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#end();
  }

  #end(): void {
    if (!this.#closed || this.#delivering) return;
    this.#complete = true;
    for (const subscriber of [...this.#subscribers]) subscriber.complete();
    this.#subscribers.clear();
  }

  /** Who subscribes from within a delivery has had this value as its first, and is not in the copy. */
  #deliver(value: T): void {
    this.#current = value;
    if (this.#subscribers.size === 0) return;
    for (const subscriber of [...this.#subscribers]) subscriber.next(value);
  }
}
