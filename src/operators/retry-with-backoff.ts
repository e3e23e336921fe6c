import { retry, throwError, timer, type MonoTypeOperatorFunction } from 'rxjs';
import type { Clock } from '../clock.js';
import { VfioError } from '../errors.js';

/** How often, how soon, and what for. */
export interface BackoffOptions {
  /** How often it is tried again, in a row without a value. Default 5. */
  readonly count?: number;
  /** The pause before the first, ms. Default 10. */
  readonly firstMs?: number;
  /** How much longer each pause is than the one before. Default 2. */
  readonly factor?: number;
  /** No pause is longer, ms. Default 1000. */
  readonly mostMs?: number;
  /** Whether it is worth another try. Default: VFIO_E_BUSY and VFIO_E_ACK_TIMEOUT are. */
  readonly again?: (error: unknown) => boolean;
}

const passing: ReadonlySet<string> = new Set(['VFIO_E_BUSY', 'VFIO_E_ACK_TIMEOUT']);
const mayPass = (error: unknown): boolean => VfioError.is(error) && passing.has(error.code);

/**
 * Subscribes again after a failure that may pass, each time after a longer pause.
 *
 * ```
 * source                                  -#
 * retryWithBackoff, 2 frames, twice       -  --  -  ----  -#      tried at 0, 3 and 8
 * ```
 *
 * - **Emits** what its source does. **Drops** nothing; what came before a failure has been emitted. **Completes** with its source.
 * - **Fails** with the error of its source: of the last try, or at once where `again` says no.
 * - **Releases** the pause on unsubscribe.
 *
 * @example
 * transition(device, 'pre-copy').pipe(retryWithBackoff(device.clock, { count: 3, firstMs: 50 })).subscribe(({ to }) => console.log(to));
 * @see stepDeadline
 */
export function retryWithBackoff<T>(clock: Clock, { count = 5, firstMs = 10, factor = 2, mostMs = 1000, again = mayPass }: BackoffOptions = {}): MonoTypeOperatorFunction<T> {
  return retry({
    count,
    resetOnSuccess: true,
    delay: (error: unknown, n) => (again(error) ? timer(Math.min(firstMs * factor ** (n - 1), mostMs), clock.scheduler) : throwError(() => error)),
  });
}
