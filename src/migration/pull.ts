import { Observable, Subscription } from 'rxjs';
import type { Call } from '../devices/port.js';

/** Makes a call again and again, one at a time, until it answers undefined. Calls that answer at once make a loop, not a stack. */
export function pull<T>(call: () => Call<T | undefined>): Observable<T> {
  return new Observable<T>((subscriber) => {
    const current = new Subscription();
    let looping = false;
    let again = false;
    const next = (): void => {
      again = true;
      if (looping) return;
      looping = true;
      while (again && !subscriber.closed) {
        again = false;
        const one = call().subscribe({
          next: (value) => {
            if (value === undefined) subscriber.complete();
            else subscriber.next(value);
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => {
            if (!subscriber.closed) next();
          },
        });
        current.add(one);
        one.add(() => current.remove(one));
      }
      looping = false;
    };
    subscriber.add(current);
    next();
  });
}
