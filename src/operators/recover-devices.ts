import { catchError, concat, concatMap, defer, EMPTY, filter, forkJoin, ignoreElements, map, of, take, tap, throwError, throwIfEmpty, timeout, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { timerMs } from '../clock.js';
import { VfioError } from '../errors.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { State } from '../devices/port.js';
import { hasState } from '../devices/protocol/migration-states.js';
import { wayOf } from '../devices/protocol/migration-ways.js';

/** Where a device is after a failure, and how it got there. */
export interface Recovered {
  readonly device: string;
  /** As far as is known: the last that the device was heard of. */
  readonly state: State;
  /** It was there; by a write of the recover state; by a reset; or not at all: it is where the failure left it. */
  readonly by: 'itself' | 'transition' | 'reset' | 'nothing';
  /** Why it did not get there by itself, or by the better way. */
  readonly error?: unknown;
}

/** Where devices are to be after a failure. */
export interface RecoverOptions {
  /** The recover state. Default RUNNING. */
  readonly to?: State;
  /** How long each write, reset, and wait for a write that is under way may take, ms. Default 5000. */
  readonly deadlineMs?: number;
  /** Told before the failure is passed on: one for each device, in their order. */
  readonly tell?: (recovered: readonly Recovered[]) => void;
}

/**
 * On failure brings each device, all side by side, to the best state that it can still reach: the recover state, else RUNNING by a reset.
 * Several devices that are to run have all reached RUNNING_P2P before one of them runs.
 *
 * ```
 * source           --#
 * device a         --[r--]     by a write of RUNNING
 * device b         --[r-]#     that fails: by a reset
 * recoverDevices   --- --#
 * ```
 *
 * - **Emits** what its source does. **Drops** nothing. **Completes** with its source.
 * - **Fails** with the very error of its source, after every device has been brought somewhere and `tell` was told where.
 *   A write that is under way is waited for first: nothing else can be asked of the device before it has returned.
 * - **Releases** on unsubscribe nothing: what a device was asked goes on, and it is asked no more.
 *
 * @example
 * transition(device, 'stop-copy')
 *   .pipe(recoverDevices([device], { to: 'running', tell: (all) => { for (const { device: name, state, by } of all) console.log(name, state, by); } }))
 *   .subscribe({ error: console.error });
 * @see lockstep
 */
export function recoverDevices<T>(devices: readonly VfioDevice[], { tell = () => undefined, ...options }: RecoverOptions = {}): MonoTypeOperatorFunction<T> {
  return catchError((failure: unknown) => bringBack(devices, options).pipe(tap(tell), concatMap(() => throwError(() => failure))));
}

/** What `recoverDevices` does on failure, for one that has failed otherwise. Says what became of each; never fails. */
export function bringBack(devices: readonly VfioDevice[], { to = 'running', deadlineMs = 5000 }: Omit<RecoverOptions, 'tell'> = {}): Observable<readonly Recovered[]> {
  return defer(() => {
    if (devices.length === 0) return of([]);
    const careful = to === 'running' && devices.length > 1 ? devices.filter((device) => hasState(device.migration?.flags ?? 0, 'running-p2p') && device.currentState.state !== to) : [];
    const quiet = defer(() => (careful.length === 0 ? EMPTY : forkJoin(careful.map((device) => recovered(device, 'running-p2p', deadlineMs, false)))));
    return concat(quiet.pipe(ignoreElements()), defer(() => forkJoin(devices.map((device) => recovered(device, to, deadlineMs, true)))));
  });
}

/** @param mayReset whether a reset is tried where the state cannot be reached */
function recovered(device: VfioDevice, to: State, deadlineMs: number, mayReset: boolean): Observable<Recovered> {
  const within = <V>(work: Observable<V>, what: string): Observable<V> =>
    work.pipe(timeout({ first: timerMs(deadlineMs), scheduler: device.clock.scheduler, with: () => throwError(() => new VfioError('VFIO_E_DEADLINE', `not done within ${deadlineMs} ms`, { operation: what, device: device.name })) }));
  const now = (by: Recovered['by'], why: readonly unknown[]): Recovered => ({ device: device.name, state: device.currentState.state, by, ...(why[0] === undefined ? {} : { error: why[0] }) });
  const idle = within(device.state.pipe(filter(({ going }) => going === undefined), take(1)), 'the write that is under way');
  const byReset = (why: readonly unknown[]): Observable<Recovered> =>
    !mayReset ? of(now('nothing', why)) : within(device.reset(), 'VFIO_DEVICE_RESET').pipe(map(() => now('reset', why)), catchError((error: unknown) => of(now('nothing', [...why, error]))));

  return idle.pipe(
    throwIfEmpty(() => new VfioError('VFIO_E_CLOSED', 'the device is closed', { operation: 'recoverDevices', device: device.name })),
    concatMap(({ state }) => {
      device.checkOpen('recoverDevices');
      if (state === to) return of(now('itself', []));
      if (device.migration === undefined || wayOf(device.migration, state, to) === undefined) return byReset([]);
      return within(device.writeState(to), `device_state ${to}`).pipe(
        // Nobody asked for the state of a device that is on its way back.
        tap(({ data }) => disregard(data?.close())),
        map(() => now('transition', [])),
        catchError((error: unknown) => byReset([error])),
      );
    }),
    catchError((error: unknown) => of(now('nothing', [error]))),
  );
}
