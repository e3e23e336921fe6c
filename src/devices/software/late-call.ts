import { directCall } from '../call.js';
import type { Call } from '../port.js';
import type { Timers } from './timers.js';

/** A call that a thread would make: `body` runs in a later turn, also when nobody waits for it any more. */
export function lateCall<T>(timers: Timers, body: () => T): Call<T> {
  return directCall<T>((asker) => {
    let wanted = true;
    timers.later(() => {
      let value: T;
      try {
        value = body();
      } catch (error) {
        if (wanted) asker.failed(error);
        return;
      }
      if (wanted) asker.answered(value);
    });
    return () => (wanted = false);
  });
}
