import { defer, exhaustMap, interval, map, of, takeUntil, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { VfioError } from '../errors.js';

/** The region whose slots take numbers. */
export const mailboxRegion = 0;
export const guestNumber = 0;

/** One slot for mapped writes, one for those that wait for a trapped access, bytes. */
const slots = { mapped: 0, trapped: 8 } as const;
const everyMs = 1;

/**
 * Writes the numbers from 1 on into a slot of the device whenever that is empty, and never asks whether it is mapped.
 *
 * - **Emits** how many it has written. **Completes** after `stop`, when none is on its way any more. **Fails** as accessors do.
 */
export function demoGuest(device: VfioDevice, stop: Observable<unknown>): Observable<number> {
  return defer(() => {
    const region = device.region(mailboxRegion);
    let sent = 0;
    const word = (): bigint => (BigInt(guestNumber) << 32n) | BigInt(sent + 1);
    const turn = (): Observable<number> => {
      try {
        if (region.read64(slots.mapped) !== 0n) return of(sent);
        region.write64(slots.mapped, word());
        sent += 1;
        return of(sent);
      } catch (error) {
        // device_state is being written: an access that is trapped goes by a thread.
        if (!VfioError.is(error) || error.code !== 'VFIO_E_WOULD_BLOCK') throw error;
        const bytes = new Uint8Array(8);
        new DataView(bytes.buffer).setBigUint64(0, word(), true);
        return region.request({ offset: slots.trapped, write: bytes }).pipe(map(() => (sent += 1)));
      }
    };
    // After the last turn has begun nothing cuts it off: its number is on its way.
    const turns = interval(everyMs, device.clock.scheduler).pipe(takeUntil(stop));
    return turns.pipe(exhaustMap(turn));
  });
}
