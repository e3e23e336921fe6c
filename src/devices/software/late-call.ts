import { directCall, type Asker, type Leave } from '../call.js';
import type { Call } from '../port.js';
import type { Timers } from './timers.js';

/** A call that a thread would make: `body` runs in a later turn, also when nobody waits for it any more. */
export function lateCall<T>(timers: Timers, body: () => T): Call<T> {
  return directCall<T>((asker) => answerLater(timers, asker, body));
}

/** The same for one who has been asked. */
export function answerLater<T>(timers: Timers, asker: Asker<T>, body: () => T): Leave {
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
}
