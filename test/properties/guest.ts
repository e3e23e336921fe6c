import { EMPTY, ignoreElements, tap, timer, type Observable, type SchedulerLike } from 'rxjs';
import type { Holder, MappedPiece } from '../../src/devices/holders.js';
import type { Area } from '../../src/devices/port.js';
import { intersectAreas } from '../../src/devices/protocol/areas.js';

/** A holder as it should be: writes to what it has been handed, until it has let go. */
export class Guest implements Holder {
  readonly name = 'guest';
  readonly #scheduler: SchedulerLike;
  readonly #letsGoAfterUs: number;
  #pieces: readonly MappedPiece[] = [];

  constructor(scheduler: SchedulerLike, letsGoAfterUs: number) {
    this.#scheduler = scheduler;
    this.#letsGoAfterUs = letsGoAfterUs;
  }

  regain(pieces: readonly MappedPiece[]): Observable<unknown> {
    this.#pieces = [...this.#pieces, ...pieces];
    return EMPTY;
  }

  release(areas: readonly Area[]): Observable<unknown> {
    const letGo = (): void => {
      this.touch();
      this.#pieces = this.#pieces.filter((piece) => intersectAreas([piece.area], areas).length === 0);
    };
    return timer(this.#letsGoAfterUs / 1_000, this.#scheduler).pipe(tap(letGo), ignoreElements());
  }

  /** One store into each piece: a stale one is seen by the driver. */
  touch(): void {
    for (const { memory, byteOffset } of this.#pieces) new BigUint64Array(memory, byteOffset, 1)[0] = 1n;
  }
}
