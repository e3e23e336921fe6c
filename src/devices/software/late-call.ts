import { Observable } from 'rxjs';
import type { Call } from '../port.js';
import type { Timers } from './timers.js';

/** A call that a thread would make: `body` runs in a later turn, also when nobody waits for it any more. */
export function lateCall<T>(timers: Timers, body: () => T): Call<T> {
  return new Observable<T>((subscriber) => {
    timers.soon(() => {
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
  });
}
