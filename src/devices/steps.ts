import { Observable, takeUntil, type OperatorFunction, type Subscriber } from 'rxjs';
import { ask, directCall, type Asker, type Leave } from './call.js';
import type { Call } from './port.js';

/**
 * How calls follow one another where a driver waits for them. An operator of rxjs makes a Subscriber for each call, which costs more
 * than the call; here answers that come at once are taken in a loop. A call that takes its time is waited for as ever.
 */

/** Calls in the order in which they are yielded: a `yield` gives the answer, or throws what the call failed with. */
export type Steps<T> = Generator<Call<unknown>, T, unknown>;

/** One call after the other, in place of `concat` and `concatMap`. Unsubscribed, it ends at its `yield` as by a return: `finally` runs, and must not yield. */
export function steps<T>(begin: () => Steps<T>): Call<T> {
  return directCall<T>((asker) => take(begin(), asker));
}

/** The same for one who has begun them. */
export function take<T>(begun: Steps<T>, asker: Asker<T>): Leave | undefined {
  return new Run(begun, asker).start();
}

/** One subscription of `steps`; it is itself who waits for each of them. */
class Run<T> implements Asker<unknown> {
  readonly #steps: Steps<T>;
  readonly #asker: Asker<T>;
  /** What the step before has brought, and not yet taken by the loop. */
  #brought: 'nothing' | 'value' | 'error' = 'value';
  #answer: unknown;
  #leave: Leave | undefined;
  #looping = false;
  #over = false;

  constructor(begun: Steps<T>, asker: Asker<T>) {
    this.#steps = begun;
    this.#asker = asker;
  }

  start(): Leave | undefined {
    this.#loop();
    return this.#over ? undefined : () => this.#stop();
  }

  get closed(): boolean {
    return this.#isOver();
  }

  answered(value: unknown): void {
    this.#bring('value', value);
  }

  failed(error: unknown): void {
    this.#bring('error', error);
  }

  #bring(brought: 'value' | 'error', answer: unknown): void {
    this.#brought = brought;
    this.#answer = answer;
    if (!this.#looping) this.#loop();
  }

  #loop(): void {
    this.#looping = true;
    try {
      while (this.#brought !== 'nothing' && !this.#isOver()) {
        const threw = this.#brought === 'error';
        this.#brought = 'nothing';
        const step = threw ? this.#steps.throw(this.#answer) : this.#steps.next(this.#answer);
        if (step.done === true) {
          this.#over = true;
          this.#asker.answered(step.value);
          return;
        }
        if (this.#isOver()) break;
        this.#leave = ask(step.value, this);
      }
    } catch (error) {
      this.#over = true;
      this.#asker.failed(error);
      return;
    } finally {
      this.#looping = false;
    }
    if (this.#isOver()) this.#end();
  }

  #stop(): void {
    if (this.#over) return;
    this.#over = true;
    // From within a step it is the loop that ends.
    if (!this.#looping) this.#end();
  }

  /**
   * Asked anew after each step: whoever waits may leave within one. Steps within steps are asked in a loop: what calls itself is inlined into
   * itself, and V8 compiled it for 100 ms while a migration waited.
   */
  #isOver(): boolean {
    if (this.#over) return true;
    let asker: Asker<never> = this.#asker;
    while (asker instanceof Run) {
      const run = asker as Run<never>;
      if (run.#over) return true;
      asker = run.#asker;
    }
    return asker.closed;
  }

  #end(): void {
    this.#over = true;
    this.#leave?.();
    this.#steps.return(undefined as T);
  }
}

/** Calls that are all made at once; answers when all have, in the order in which they came. The first that fails is the failure, and the others are left. */
export function all<I, T>(items: Iterable<I>, call: (item: I) => Call<T>): Call<readonly T[]> {
  return directCall<readonly T[]>((asker) => new All(asker).start(items, call));
}

class All<T> implements Asker<T> {
  readonly #asker: Asker<readonly T[]>;
  readonly #answers: T[] = [];
  readonly #leaves: Leave[] = [];
  #left = 1;
  #over = false;

  constructor(asker: Asker<readonly T[]>) {
    this.#asker = asker;
  }

  start<I>(items: Iterable<I>, call: (item: I) => Call<T>): Leave | undefined {
    try {
      for (const item of items) {
        if (this.closed) break;
        this.#left += 1;
        const leave = ask(call(item), this);
        if (leave !== undefined) this.#leaves.push(leave);
      }
    } catch (error) {
      this.failed(error);
    }
    if (this.closed) this.#stop();
    else this.#countDown();
    return this.#over ? undefined : () => this.#stop();
  }

  get closed(): boolean {
    return this.#over || this.#asker.closed;
  }

  answered(value: T): void {
    this.#answers.push(value);
    this.#countDown();
  }

  failed(error: unknown): void {
    if (this.#over) return;
    this.#stop();
    this.#asker.failed(error);
  }

  #countDown(): void {
    this.#left -= 1;
    if (this.#left > 0 || this.#over) return;
    this.#over = true;
    this.#asker.answered(this.#answers);
  }

  #stop(): void {
    this.#over = true;
    for (const leave of this.#leaves.splice(0)) leave();
  }
}

/**
 * A call for each input, one after the other, as by `concatMap`.
 *
 * @param afterwards when everybody behind has had the answer, before the next call
 */
export function callInTurn<I, O>(call: (input: I) => Call<O>, afterwards?: (input: I) => void): OperatorFunction<I, O> {
  return (source) =>
    new Observable<O>((subscriber) => {
      const turns = new Turns(subscriber, call, afterwards);
      subscriber.add(() => turns.leave());
      // A source that tells all inside subscribe() has given nothing yet to unsubscribe.
      const unsubscribed = new Observable<void>((end) => subscriber.add(() => end.next()));
      subscriber.add(
        source.pipe(takeUntil(unsubscribed)).subscribe({
          next: (input) => turns.add(input),
          error: (error: unknown) => subscriber.error(error),
          complete: () => turns.end(),
        }),
      );
    });
}

class Turns<I, O> implements Asker<O> {
  readonly #subscriber: Subscriber<O>;
  readonly #call: (input: I) => Call<O>;
  readonly #afterwards: ((input: I) => void) | undefined;
  /** The first is being served. */
  readonly #inputs: I[] = [];
  #leave: Leave | undefined;
  #serving = false;
  #looping = false;
  #ended = false;

  constructor(subscriber: Subscriber<O>, call: (input: I) => Call<O>, afterwards: ((input: I) => void) | undefined) {
    this.#subscriber = subscriber;
    this.#call = call;
    this.#afterwards = afterwards;
  }

  add(input: I): void {
    this.#inputs.push(input);
    this.#proceed();
  }

  end(): void {
    this.#ended = true;
    this.#proceed();
  }

  leave(): void {
    this.#leave?.();
  }

  get closed(): boolean {
    return this.#subscriber.closed;
  }

  answered(value: O): void {
    const [input] = this.#inputs as [I];
    this.#subscriber.next(value);
    try {
      if (!this.closed) this.#afterwards?.(input);
    } catch (error) {
      this.#subscriber.error(error);
    }
    this.#inputs.shift();
    this.#serving = false;
    this.#proceed();
  }

  failed(error: unknown): void {
    this.#subscriber.error(error);
  }

  /** A loop, since an input may come, and an answer too, from within what is done here. */
  #proceed(): void {
    if (this.#looping) return;
    this.#looping = true;
    while (!this.#serving && this.#inputs.length > 0 && !this.closed) {
      this.#serving = true;
      this.#serve(this.#inputs[0] as I);
    }
    this.#looping = false;
    if (this.#ended && this.#inputs.length === 0) this.#subscriber.complete();
  }

  #serve(input: I): void {
    try {
      this.#leave = ask(this.#call(input), this);
      if (this.closed) this.#leave?.();
    } catch (error) {
      this.#subscriber.error(error);
    }
  }
}
