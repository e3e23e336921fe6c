import { catchError, EMPTY, ignoreElements, throwError, timeout, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { closeBoundMs } from '../call.js';
import type { DevicePort } from '../port.js';

/** A port says itself that it is stuck, after `closeBoundMs`; so long after that a server does not wait for it any more, ms. */
const graceMs = 5000;

/** Completes when the port is released; fails with VFIO_E_DEADLINE where its driver keeps it beyond all patience. */
export function releasedInTime(port: DevicePort): Observable<never> {
  const boundMs = closeBoundMs + graceMs;
  return port.released.pipe(
    ignoreElements(),
    catchError(() => EMPTY),
    timeout({
      first: boundMs,
      scheduler: port.clock.scheduler,
      with: () => throwError(() => new VfioError('VFIO_E_DEADLINE', `the device is not released after ${boundMs} ms: a call of its driver does not return, and it may be busy for the next client`, { operation: 'serve', device: port.name })),
    }),
  );
}
