import { catchError, defer, mergeMap, of, tap, type Observable } from 'rxjs';
import { Cell } from '../cell.js';
import { VfioError } from '../errors.js';
import { disregard, ownedCall } from './call.js';
import type { Call, DevicePort, State, StateReply } from './port.js';

/** device_state as it is known: `going` while a write is outstanding. */
export interface StateView {
  readonly state: State;
  readonly sinceNs: bigint;
  readonly going?: State;
}

/**
 * Owns the one write of device_state that a device may have outstanding.
 *
 * The kernel's call cannot be taken back, so it belongs to the writer and not to a subscriber: who unsubscribes detaches,
 * the write stays outstanding and refuses a second one, and what it brings home late is still the device's state
 * (a late data_fd is closed).
 */
export class StateWriter {
  readonly #port: DevicePort;
  readonly cell: Cell<StateView>;
  #outstanding = false;

  constructor(port: DevicePort, initial: State) {
    this.#port = port;
    this.cell = new Cell<StateView>({ state: initial, sinceNs: port.clock.nowNs() });
  }

  get outstanding(): boolean {
    return this.#outstanding;
  }

  /** Fails with VFIO_E_BUSY while another write is outstanding, else with what the port says. */
  write(to: State): Call<StateReply> {
    return defer(() => {
      if (this.#outstanding) {
        throw new VfioError('VFIO_E_BUSY', `the write of ${this.cell.current.going ?? 'another state'} has not returned yet; one at a time`, {
          operation: `device_state ${to}`,
          device: this.#port.name,
          errno: 'EBUSY',
        });
      }
      return this.#start(to);
    });
  }

  #start(to: State): Observable<StateReply> {
    const before = this.cell.current;
    return ownedCall(
      () => {
        this.#outstanding = true;
        this.cell.set({ ...before, going: to });
        return this.#port.setState(to).pipe(
          tap((reply) => this.#settle(reply.state)),
          catchError((error: unknown) => this.#afterFailure(before.state, error)),
        );
      },
      (reply) => disregard(reply.data?.close()),
    );
  }

  /** A failed combination of arcs may have stopped between two of them: the driver is asked where it is. */
  #afterFailure(before: State, error: unknown): Observable<never> {
    return this.#port.getState().pipe(
      catchError(() => of(before)),
      mergeMap((state) => {
        this.#settle(state);
        throw error;
      }),
    );
  }

  #settle(state: State): void {
    this.#outstanding = false;
    const { current } = this.cell;
    this.cell.set({ state, sinceNs: state === current.state ? current.sinceNs : this.#port.clock.nowNs() });
  }
}
