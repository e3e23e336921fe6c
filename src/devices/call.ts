import { catchError, EMPTY, Observable, type MonoTypeOperatorFunction } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../errors.js';
import type { Call } from './port.js';

/** After so long a port that is closing says, in `released`, that it waits for a call that does not return although the irqs are disabled, ms. */
export const closeBoundMs = 10_000;

/** A *now* call: `body` runs inside each subscribe(), its result is the one value, what it throws is the error. */
export function nowCall<T>(body: () => T): Call<T> {
  return new Observable<T>((subscriber) => {
    let value: T;
    try {
      value = body();
    } catch (error) {
      subscriber.error(error);
      return;
    }
    subscriber.next(value);
    subscriber.complete();
  });
}

/**
 * A call that runs to its end whoever listens: the kernel cannot be interrupted, so unsubscribing only detaches.
 * `late` disposes of a result that nobody took.
 */
export function ownedCall<T>(start: () => Observable<T>, late?: (value: T) => void): Call<T> {
  return new Observable<T>((subscriber) => {
    let wanted = true;
    start().subscribe({
      next: (value) => {
        if (wanted) subscriber.next(value);
        else late?.(value);
      },
      error: (error: unknown) => subscriber.error(error),
      complete: () => subscriber.complete(),
    });
    return () => (wanted = false);
  });
}

/** Makes a call whose outcome changes nothing any more: a release on the way out. */
export function disregard(call: Call<unknown> | undefined): void {
  call?.subscribe({ error: () => undefined });
}

/** Turns the error that means "not there" into an empty stream; every other error stays one. */
export function absentIsEmpty<T>(code: VfioErrorCode): MonoTypeOperatorFunction<T> {
  return catchError((error: unknown) => {
    if (VfioError.is(error) && error.code === code) return EMPTY;
    throw error;
  });
}
