import { catchError, concatMap, defaultIfEmpty, defer, finalize, forkJoin, map, of, takeLast, tap, type Observable, type OperatorFunction } from 'rxjs';
import { VfioError } from '../errors.js';
import type { VfioDevice } from '../devices/device.js';

/** What became of one device's step. */
type Outcome<R> = { readonly device: VfioDevice; readonly result: R } | { readonly device: VfioDevice; readonly error: unknown };

/**
 * Takes several devices through the same steps together: each value is a step, and no device goes on to the next before all have done this one.
 *
 * ```
 * step       --p---z|                       two states
 * device a   --[p--]----  [z  --]----
 * device b   --[p-------<],[z>-------]
 * lockstep   ----------   p   -------<z,|>    what both brought, in the order of the devices
 * ```
 *
 * - **Emits** one list for each value: the last value of each device's step, once all have completed.
 * - **Drops** nothing: one step after the other.
 * - **Completes** with its source.
 * - **Fails** with VFIO_E_STEP once every device has done its step or failed: the message names those that failed, `cause.errors` has their errors.
 *   So what comes after a failure (`recoverDevices`) finds no step under way.
 * - **Releases** by `giveBack` the results that nobody gets, because another device failed or the subscriber has left.
 *
 * @example
 * import { from } from 'rxjs';
 * from(['pre-copy-p2p', 'stop-copy'] as const)
 *   .pipe(lockstep([device, device], (one, state) => transition(one, state, { deadlineMs: 2000 })))
 *   .subscribe((arcs) => console.log(arcs.map(({ device: name, to }) => `${name} ${to}`)));
 * @see transition, recoverDevices
 */
export function lockstep<T, R>(
  devices: readonly VfioDevice[],
  step: (device: VfioDevice, value: T) => Observable<R>,
  giveBack: (result: R) => void = () => undefined,
): OperatorFunction<T, readonly R[]> {
  return concatMap((value: T) => (devices.length === 0 ? of([]) : together(devices, (device) => step(device, value), giveBack)));
}

function together<R>(devices: readonly VfioDevice[], step: (device: VfioDevice) => Observable<R>, giveBack: (result: R) => void): Observable<readonly R[]> {
  return defer(() => {
    const owned = new Set<R>();
    const outcomeOf = (device: VfioDevice): Observable<Outcome<R>> =>
      defer(() => step(device)).pipe(
        takeLast(1),
        tap((result) => owned.add(result)),
        map((result): Outcome<R> => ({ device, result })),
        defaultIfEmpty<Outcome<R>, Outcome<R>>({ device, error: new VfioError('VFIO_E_STEP', 'the step ended without a result', { operation: 'lockstep', device: device.name }) }),
        catchError((error: unknown) => of<Outcome<R>>({ device, error })),
      );
    return forkJoin(devices.map(outcomeOf)).pipe(
      map((outcomes) => {
        const failures = outcomes.filter((outcome) => 'error' in outcome);
        if (failures.length > 0) throw stepError(failures, devices.length);
        return outcomes.flatMap((outcome) => ('result' in outcome ? [outcome.result] : []));
      }),
      // They are the receiver's from here on.
      tap(() => owned.clear()),
      finalize(() => owned.forEach(giveBack)),
    );
  });
}

function stepError(failures: readonly { readonly device: VfioDevice; readonly error: unknown }[], of: number): VfioError {
  const names = failures.map(({ device }) => device.name).join(', ');
  const words = failures.map(({ error }) => (error instanceof Error ? error.message : String(error)));
  return new VfioError('VFIO_E_STEP', `${failures.length} of ${of} devices failed a step that all were to take: ${words.join('; ')}`, {
    operation: 'lockstep',
    device: names,
    cause: new AggregateError(failures.map(({ error }) => error), names),
  });
}
