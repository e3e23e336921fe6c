import { Observable } from 'rxjs';
import { ask, type Asker, type Leave } from '../devices/call.js';
import type { Call } from '../devices/port.js';

/** Makes a call again and again, one at a time, until it answers undefined. Calls that answer at once make a loop, not a stack. */
export function pull<T>(call: () => Call<T | undefined>): Observable<T> {
  return new Observable<T>((subscriber) => {
    let leave: Leave | undefined;
    let looping = false;
    let again = false;
    const asker: Asker<T | undefined> = {
      get closed() {
        return subscriber.closed;
      },
      answered: (value) => {
        if (value === undefined) subscriber.complete();
        else subscriber.next(value);
        next();
      },
      failed: (error) => subscriber.error(error),
    };
    const next = (): void => {
      again = true;
      if (looping) return;
      looping = true;
      while (again && !subscriber.closed) {
        again = false;
        leave = ask(call(), asker);
      }
      looping = false;
      if (subscriber.closed) leave?.();
    };
    subscriber.add(() => leave?.());
    next();
  });
}
