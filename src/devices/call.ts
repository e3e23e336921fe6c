import { catchError, EMPTY, Observable, type MonoTypeOperatorFunction, type Subscriber } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../errors.js';
import type { Call } from './port.js';

/** After so long a port that is closing says, in `released`, that it waits for a call that does not return although the irqs are disabled, ms. */
export const closeBoundMs = 10_000;

/** Who waits for the answer of a call. */
export interface Asker<T> {
  /** Nobody waits any more: nothing further need be begun. */
  readonly closed: boolean;
  /** Once, unless the call failed. Does not throw. */
  answered(value: T): void;
  failed(error: unknown): void;
}

/** Stops waiting for a call that has not answered yet. */
export type Leave = () => void;

const begin = Symbol('begin');

/**
 * A call that an `Asker` can have without a Subscriber in between; for everybody else it is an Observable like any other. A driver
 * waits for a remap, and most of what a remap took was the making of Subscribers.
 */
interface DirectCall<T> extends Observable<T> {
  [begin]: (asker: Asker<T>) => Leave | undefined;
}

/** @param work begins the call; where it has answered inside, there is nothing to leave */
export function directCall<T>(work: (asker: Asker<T>) => Leave | undefined): Call<T> {
  const call = new Observable<T>(subscribed) as DirectCall<T>;
  call[begin] = work;
  return call;
}

/** One function for all of them: a call is made for every chunk of a migration. */
function subscribed<T>(this: Observable<T>, subscriber: Subscriber<T>): Leave | undefined {
  return (this as DirectCall<T>)[begin](new SubscriberAsker(subscriber));
}

function isDirect<T>(call: Call<T>): call is DirectCall<T> {
  return begin in call;
}

/** A Subscriber that asks. One object, not one with a closure for each method: it is made for each call of somebody else's. */
class SubscriberAsker<T> implements Asker<T> {
  readonly #subscriber: Subscriber<T>;

  constructor(subscriber: Subscriber<T>) {
    this.#subscriber = subscriber;
  }

  get closed(): boolean {
    return this.#subscriber.closed;
  }

  answered(value: T): void {
    this.#subscriber.next(value);
    this.#subscriber.complete();
  }

  failed(error: unknown): void {
    this.#subscriber.error(error);
  }
}

/** Makes a call; one that completes without a value answers with undefined. */
export function ask<T>(call: Call<T>, asker: Asker<T>): Leave | undefined {
  if (isDirect(call)) return call[begin](asker);
  let value: T | undefined;
  const asked = call.subscribe({
    next: (answer) => (value = answer),
    error: (error: unknown) => asker.failed(error),
    complete: () => asker.answered(value as T),
  });
  return asked.closed ? undefined : () => asked.unsubscribe();
}

/** A *now* call: `body` runs inside each subscribe(), its result is the one value, what it throws is the error. */
export function nowCall<T>(body: () => T): Call<T> {
  return directCall<T>((asker) => {
    let value: T;
    try {
      value = body();
    } catch (error) {
      asker.failed(error);
      return undefined;
    }
    asker.answered(value);
    return undefined;
  });
}

/** A call that is made anew for everybody who asks, as by `defer`. */
export function deferred<T>(make: () => Call<T>): Call<T> {
  return directCall<T>((asker) => {
    let call: Call<T>;
    try {
      call = make();
    } catch (error) {
      asker.failed(error);
      return undefined;
    }
    return ask(call, asker);
  });
}

/**
 * A call that runs to its end whoever listens: the kernel cannot be interrupted, so unsubscribing only detaches.
 * `late` disposes of a result that nobody took.
 */
export function ownedCall<T>(start: () => Call<T>, late?: (value: T) => void): Call<T> {
  return directCall<T>((asker) => {
    let wanted = true;
    ask(deferred(start), {
      closed: false,
      answered: (value) => {
        if (wanted && !asker.closed) asker.answered(value);
        else late?.(value);
      },
      failed: (error) => {
        if (wanted) asker.failed(error);
      },
    });
    return () => (wanted = false);
  });
}

const nobody: Asker<unknown> = { closed: false, answered: () => undefined, failed: () => undefined };

/** Makes a call whose outcome changes nothing any more: a release on the way out. */
export function disregard(call: Call<unknown> | undefined): void {
  if (call !== undefined) ask(call, nobody);
}

/** Turns the error that means "not there" into an empty stream; every other error stays one. */
export function absentIsEmpty<T>(code: VfioErrorCode): MonoTypeOperatorFunction<T> {
  return catchError((error: unknown) => {
    if (VfioError.is(error) && error.code === code) return EMPTY;
    throw error;
  });
}
