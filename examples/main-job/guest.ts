import { defer, exhaustMap, interval, map, of, takeUntil, type Observable } from 'rxjs';
import { VfioError, type VfioDevice } from 'vfio-rx';
import { mailboxRegion, numberWord, slotOffsets, wordBytes, type GuestPlan } from './mailbox.js';

/** Guest `guest` has sent the numbers 1 to `sent`. */
export interface Progress {
  readonly guest: number;
  readonly sent: number;
}

export interface GuestOptions {
  /** How often it looks for empty slots. */
  readonly turnMs: number;
  /** A number that is counted and never written. */
  readonly lose?: number | undefined;
}

/**
 * A guest on the main loop: turn by turn it fills its empty slots through the region's accessors, which go by the
 * mapping or trap, as the layout has it. It never asks which. Only where a trapped access would block the loop, because
 * device_state is being written, it sends one number by `request()`.
 *
 * Emits after each turn; completes after `stop`, when no number is on its way any more.
 */
export function loopGuest(device: VfioDevice, plan: GuestPlan, stop: Observable<unknown>, options: GuestOptions): Observable<Progress> {
  return defer(() => {
    const region = device.region(mailboxRegion);
    const offsets = slotOffsets(plan);
    let sent = 0;
    const progress = (): Progress => ({ guest: plan.id, sent });

    const fillSlots = (): void => {
      for (const offset of offsets) {
        if (region.read64(offset) !== 0n) continue;
        if (sent + 1 !== options.lose) region.write64(offset, numberWord(plan.id, sent + 1));
        sent += 1;
      }
    };
    const sendOne = (): Observable<Progress> =>
      region.request({ offset: plan.trapOffset, write: wordBytes(numberWord(plan.id, sent + 1)) }).pipe(
        map(() => {
          sent += 1;
          return progress();
        }),
      );
    const turn = (): Observable<Progress> => {
      try {
        fillSlots();
        return of(progress());
      } catch (error) {
        if (VfioError.is(error) && error.code === 'VFIO_E_WOULD_BLOCK') return sendOne();
        throw error;
      }
    };
    // After the last turn has begun nothing cuts it off: its number is on its way.
    const turns = interval(options.turnMs, device.clock.scheduler).pipe(takeUntil(stop));
    return turns.pipe(exhaustMap(turn));
  });
}
