import { BehaviorSubject, concatMap, defer, switchMap, takeUntil, tap, throwError, timer, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { VfioError } from '../errors.js';

/** How long steps may take. */
export interface StepDeadlineOptions {
  /** For each, or by the number of the step (from 0), ms. */
  readonly deadlineMs: number | ((step: number) => number);
  /** What the error says of the step. Default: its number. */
  readonly name?: (step: number) => string;
}

/**
 * A deadline for each step of a sequence: from subscribe to the first value, and from each value to the next one or to the end.
 *
 * ```
 * source                      -a--b--------c
 * stepDeadline, 4 frames      -a--b---#
 * ```
 *
 * - **Emits** what its source does, at once. **Drops** nothing. **Completes** with its source.
 * - **Fails** with VFIO_E_DEADLINE, which names the step; with the error of its source.
 * - **Releases** its source when the deadline passes: what that has asked of a device may still be under way.
 *
 * @example
 * transition(device, 'pre-copy').pipe(stepDeadline(device.clock, { deadlineMs: 2000, name: () => 'PRE_COPY' })).subscribe(({ tookNs }) => console.log(tookNs));
 * @see lockstep, retryWithBackoff
 */
export function stepDeadline<T>(clock: Clock, { deadlineMs, name = (step) => `step ${step}` }: StepDeadlineOptions): MonoTypeOperatorFunction<T> {
  const passed = (step: number): Observable<never> => {
    const ms = typeof deadlineMs === 'number' ? deadlineMs : deadlineMs(step);
    const error = (): VfioError => new VfioError('VFIO_E_DEADLINE', `not done within ${ms} ms`, { operation: name(step) });
    return timer(timerMs(ms), clock.scheduler).pipe(concatMap(() => throwError(error)));
  };
  return (source) =>
    defer(() => {
      const steps = new BehaviorSubject(0);
      return source.pipe(
        tap(() => steps.next(steps.value + 1)),
        takeUntil(steps.pipe(switchMap(passed))),
      );
    });
}
