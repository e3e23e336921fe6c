import { Observable } from 'rxjs';
import type { Call } from './port.js';

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
