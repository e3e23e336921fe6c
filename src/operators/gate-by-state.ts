import { Observable, Subject, takeUntil, type MonoTypeOperatorFunction } from 'rxjs';
import { VfioError } from '../errors.js';
import type { VfioDevice } from '../devices/device.js';
import type { State } from '../devices/port.js';
import type { StateView } from '../devices/state-writer.js';

/** What becomes of values while the gate is shut. */
export interface GateOptions {
  /** So many are kept and passed on, in their order, when it opens; one more fails. Default: none is kept, all are dropped. */
  readonly hold?: number;
}

/**
 * Lets values pass only while the device is in one of the states. A write of device_state that leads out of them shuts it at once.
 *
 * ```
 * source          -a-b-- c--d- e--      f-|
 * state           -----[s--]-[r--]
 * gateByState     -a-b-- ----- ---      f-|     'running'
 * with hold: 9    -a-b-- ----- --<c,d,e>f-|
 * ```
 *
 * - **Emits** what comes while it is open; with `hold` also what came while it was shut, when it opens.
 * - **Drops** what comes while it is shut, unless `hold` says that it is kept.
 * - **Completes** with its source; with `hold` once what is kept has passed.
 * - **Fails** with VFIO_E_LIMIT where more would have to be kept than `hold`; with VFIO_E_CLOSED when the device is closed.
 * - **Releases** what it keeps.
 *
 * @example
 * irq(device, { index: 1 }).pipe(gateByState(device, ['running', 'pre-copy'], { hold: 64 })).subscribe(({ count }) => console.log(count));
 * @see deviceState
 */
export function gateByState<T>(device: VfioDevice, states: readonly State[], { hold }: GateOptions = {}): MonoTypeOperatorFunction<T> {
  const isOpen = ({ state, going = state }: StateView): boolean => states.includes(state) && states.includes(going);
  return (source) =>
    new Observable<T>((subscriber) => {
      const kept: T[] = [];
      let open = false;
      let passing = false;
      let done = false;
      const pass = (): void => {
        if (passing) return;
        passing = true;
        while (open && kept.length > 0 && !subscriber.closed) subscriber.next(kept.shift() as T);
        passing = false;
        if (done && kept.length === 0) subscriber.complete();
      };
      subscriber.add(
        device.state.subscribe({
          next: (view) => {
            open = isOpen(view);
            pass();
          },
          error: (error: unknown) => subscriber.error(error),
          complete: () => subscriber.error(closed(device)),
        }),
      );
      // A source that tells all inside subscribe() is left as soon as nobody wants more.
      const left = new Subject<void>();
      subscriber.add(() => {
        left.next();
      });
      source.pipe(takeUntil(left)).subscribe({
        next: (value) => {
          if (!open && hold === undefined) return;
          kept.push(value);
          pass();
          if (kept.length > (hold ?? 0) && !passing) subscriber.error(tooMany(device, hold ?? 0));
        },
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          done = true;
          pass();
        },
      });
    });
}

function closed(device: VfioDevice): VfioError {
  return new VfioError('VFIO_E_CLOSED', 'the device is closed, and its state will not change any more', { operation: 'gateByState', device: device.name });
}

function tooMany(device: VfioDevice, hold: number): VfioError {
  return new VfioError('VFIO_E_LIMIT', `more than ${hold} values came while the device was in another state: raise hold, or drop`, { operation: 'gateByState', device: device.name });
}
