import { catchError, concat, defer, EMPTY, filter, ignoreElements, merge, take, throwError, timeout, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { ask, directCall, disregard, type Asker } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import { hasState } from '../devices/protocol/migration-states.js';
import type { Call, State } from '../devices/port.js';
import { all } from '../devices/steps.js';
import { VfioError } from '../errors.js';
import { transition, type Arc } from '../streams/transition.js';

/** Work that has to be done in time; its values are dropped. */
export function within(work: Observable<unknown>, deadlineMs: number, clock: Clock, late: () => VfioError): Observable<never> {
  return work.pipe(ignoreElements(), timeout({ first: timerMs(deadlineMs), scheduler: clock.scheduler, with: () => throwError(late) }));
}

/** Which of the two sides of a migration a device is on. */
export type Side = 'source' | 'destination';

/** Says of a failure on which side, and on the way to which state, it happened. */
export function onTheWay<T>(side: Side, state: State): MonoTypeOperatorFunction<T> {
  return catchError((error: unknown) => throwError(() => wayError(error, side, state)));
}

function wayError(error: unknown, side: Side, state: State): unknown {
  if (!VfioError.is(error)) return error;
  const { code, device, errno } = error;
  return new VfioError(code, saidBy(error), { operation: `device_state ${state} at the ${side}`, device, errno, cause: error });
}

/** The same for a call, whose answer nobody needs. */
export function callOnTheWay<T>(side: Side, state: State, call: Call<T>, dispose?: (answer: T) => void): Call<void> {
  return directCall((asker: Asker<void>) => ask(call, new OnTheWay(asker, side, state, dispose)));
}

class OnTheWay<T> implements Asker<T> {
  readonly #asker: Asker<void>;
  readonly #side: Side;
  readonly #state: State;
  readonly #dispose: ((answer: T) => void) | undefined;

  constructor(asker: Asker<void>, side: Side, state: State, dispose: ((answer: T) => void) | undefined) {
    this.#asker = asker;
    this.#side = side;
    this.#state = state;
    this.#dispose = dispose;
  }

  get closed(): boolean {
    return this.#asker.closed;
  }

  answered(value: T): void {
    this.#dispose?.(value);
    this.#asker.answered();
  }

  failed(error: unknown): void {
    this.#asker.failed(wayError(error, this.#side, this.#state));
  }
}

/** Says of a failure of this device's state, as it is read or written, on which side it happened. */
export function atSide(error: unknown, side: Side, { name }: Pick<VfioDevice, 'name'>): unknown {
  if (!VfioError.is(error) || error.device !== name) return error;
  const { code, device, errno } = error;
  return new VfioError(code, saidBy(error), { operation: `state at the ${side}`, device, errno, cause: error });
}

/** The message without the device that every message begins with, and what it ends with. */
function saidBy({ message, device }: VfioError): string {
  return (device !== undefined && message.startsWith(`${device}: `) ? message.slice(device.length + 2) : message).replace(/(?: \(\w+\))? \[VFIO_E_\w+\]$/, '');
}

/** All devices reach the state before this completes; what one of them fails with, at once. */
export function allReach(side: Side, devices: readonly VfioDevice[], state: State, deadlineMs: number): Observable<never> {
  // A session that is made on the way is nobody's: somebody else had the device leave the one that there was.
  const close = ({ data }: Arc): void => disregard(data?.close());
  return all(devices, (device) => callOnTheWay(side, state, transition(device, state, { deadlineMs }), close)).pipe(ignoreElements());
}

/** Throws VFIO_E_BUSY where one of them is not in the state any more, or on its way out of it. */
export function requireAllIn(devices: readonly VfioDevice[], state: State, operation: string): void {
  const other = devices.find(({ currentState }) => currentState.state !== state || currentState.going !== undefined);
  if (other === undefined) return;
  throw new VfioError('VFIO_E_BUSY', `somebody else has taken the device to ${other.currentState.going ?? other.currentState.state}`, { operation, device: other.name });
}

/** Completes when no write of device_state is outstanding: one that was detached from goes on by itself. */
export function atRest(device: VfioDevice): Observable<never> {
  return device.state.pipe(filter(({ going }) => going === undefined), take(1), ignoreElements());
}

/** Completes when none of them has a write outstanding, or when it has waited long enough. Never fails. */
export function allAtRest(devices: readonly VfioDevice[], deadlineMs: number): Observable<never> {
  return concat(
    ...devices.map((device) => atRest(device).pipe(timeout({ first: timerMs(deadlineMs), scheduler: device.clock.scheduler }), catchError(() => EMPTY))),
  );
}

export function hasP2p(device: VfioDevice): boolean {
  return hasState(device.migration?.flags ?? 0, 'running-p2p');
}

/**
 * All devices run: first all of them without reaching each other, then altogether. One device has nobody to reach.
 *
 * ```
 * vf0   s --R--- -r
 * vf1   s ----R- ---r
 * ```
 */
export function allRun(devices: readonly VfioDevice[], deadlineMs: number): Observable<never> {
  // Some may run already, where an attempt before this one got no further.
  const rest = devices.filter(({ currentState }) => currentState.state !== 'running');
  const careful = devices.length > 1 ? rest.filter(hasP2p) : [];
  return concat(allReach('destination', careful, 'running-p2p', deadlineMs), defer(() => allReach('destination', rest, 'running', deadlineMs)));
}

/**
 * Gives up what was loaded, all devices side by side: those in RESUMING, which could reach STOP only by loading a part, and in ERROR are reset. One
 * that is stopped stays so: it may hold what the source runs, and must not run it. Any other is somebody else's. Never fails.
 */
export function discardAll(devices: readonly VfioDevice[], deadlineMs: number): Observable<never> {
  const isLost = ({ currentState: { state } }: VfioDevice): boolean => state === 'resuming' || state === 'error';
  return merge(
    ...devices.map((device) =>
      concat(atRest(device), defer(() => (isLost(device) ? device.reset() : EMPTY))).pipe(
        timeout({ first: timerMs(deadlineMs), scheduler: device.clock.scheduler }),
        ignoreElements(),
        catchError(() => EMPTY),
      ),
    ),
  );
}

/** The reason, and where the devices were left that are not as they were found: whoever uses one next finds it there. */
export function withLeft(why: VfioError, devices: readonly VfioDevice[]): VfioError {
  const byState = new Map<State, string[]>();
  let stranded = false;
  for (const { name, info, currentState: { state } } of devices) {
    if (state !== 'stop' && state !== 'resuming' && state !== 'error') continue;
    const loaded = state === 'stop' && info.reset;
    stranded ||= !loaded;
    byState.set(state, [...(byState.get(state) ?? []), `${name} (${loaded ? 'reset it before it runs' : info.reset ? 'its reset failed' : 'it has no reset'})`]);
  }
  if (byState.size === 0) return why;
  const left = [...byState].map(([state, names]) => `left in ${state.toUpperCase()}: ${names.join(', ')}`).join('; ');
  const advice = stranded ? '. Close it, and have its driver make it anew before anybody opens it: remove and create an mdev, unbind and bind a function' : '';
  return new VfioError(why.code, `${saidBy(why).slice(why.operation.length + 2)}; ${left}${advice}`, { operation: why.operation, device: why.device, errno: why.errno, cause: why });
}
