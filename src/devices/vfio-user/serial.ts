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
  #looping = false;

  /** `late` disposes of a result that nobody took. */
  run<T>(call: () => Call<T>, late?: (value: T) => void): Call<T> {
    return this.#inTurn(call, mostWaiting, late);
  }

  /** One that always has its turn, behind those that wait: for what takes away what was made before, once for each. */
  release<T>(call: () => Call<T>): Call<T> {
    return this.#inTurn(call, Infinity);
  }

  #inTurn<T>(call: () => Call<T>, most: number, late?: (value: T) => void): Call<T> {
    return ownedCall(
      () =>
        new Observable<T>((subscriber) => {
          if (this.#waiting.length >= most) {
            subscriber.error(new VfioError('VFIO_E_LIMIT', `${mostWaiting} calls wait for their turn already`, { operation: 'vfio-user' }));
            return;
          }
          this.#waiting.push(() => {
            defer(call).pipe(finalize(() => this.#next())).subscribe(subscriber);
          });
          this.#proceed();
        }),
      late,
    );
  }

  #next(): void {
    this.#busy = false;
    this.#proceed();
  }

  /** A loop: all that wait may be answered at once, when the connection is lost, and the stack has no room for so many. */
  #proceed(): void {
    if (this.#looping) return;
    this.#looping = true;
    while (!this.#busy) {
      const start = this.#waiting.shift();
      if (start === undefined) break;
      this.#busy = true;
      start();
    }
    this.#looping = false;
  }
}
