import { defer, finalize, Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { ownedCall } from '../call.js';
import type { Call } from '../port.js';

/** Calls that wait for their turn: beyond that VFIO_E_LIMIT. */
const mostWaiting = 256;

/** Calls one after the other, in the order of their subscriptions; each runs to its end whoever listens. */
export class Serial {
  readonly #waiting: (() => void)[] = [];
  #busy = false;

  /** `late` disposes of a result that nobody took. */
  run<T>(call: () => Call<T>, late?: (value: T) => void): Call<T> {
    return ownedCall(
      () =>
        new Observable<T>((subscriber) => {
          if (this.#waiting.length >= mostWaiting) {
            subscriber.error(new VfioError('VFIO_E_LIMIT', `${mostWaiting} calls wait for their turn already`, { operation: 'vfio-user' }));
            return;
          }
          this.#begin(() =>
            defer(call)
              .pipe(finalize(() => this.#next()))
              .subscribe(subscriber),
          );
        }),
      late,
    );
  }

  #begin(start: () => void): void {
    if (this.#busy) {
      this.#waiting.push(start);
      return;
    }
    this.#busy = true;
    start();
  }

  #next(): void {
    this.#busy = false;
    const start = this.#waiting.shift();
    if (start !== undefined) this.#begin(start);
  }
}
