import { catchError, concat, concatMap, defer, of, throwError, type Observable } from 'rxjs';
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

/** A write that has returned, and whose batch has ended. */
export interface WrittenState extends StateReply {
  /** When the write returned, ns. */
  readonly returnedNs: bigint;
}

/**
 * Owns the one write of device_state that a device may have outstanding.
 *
 * The kernel's call cannot be taken back, so it belongs to the writer and not to a subscriber: who unsubscribes detaches,
 * the write stays outstanding and refuses a second one. What it brings home late is still the device's state, every region
 * is still looked at once more, and a late data_fd is closed.
 */
export class StateWriter {
  readonly #port: DevicePort;
  readonly #lookAgain: () => Observable<never>;
  readonly cell: Cell<StateView>;
  #outstanding = false;

  /** @param lookAgain the batch after a write, whatever the write's result */
  constructor(port: DevicePort, initial: State, lookAgain: () => Observable<never>) {
    this.#port = port;
    this.#lookAgain = lookAgain;
    this.cell = new Cell<StateView>({ state: initial, sinceNs: port.clock.nowNs() });
  }

  get outstanding(): boolean {
    return this.#outstanding;
  }

  /**
   * Emits when the write has returned and the batch after it has ended. Fails with VFIO_E_BUSY while another write is
   * outstanding; with what the port says, at once; with what ended the pipeline before that batch.
   */
  write(to: State): Call<WrittenState> {
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

  #start(to: State): Observable<WrittenState> {
    const before = this.cell.current;
    return ownedCall(
      () => {
        this.#outstanding = true;
        this.cell.set({ ...before, going: to });
        return this.#port.setState(to).pipe(
          catchError((error: unknown) => this.#afterFailure(before.state, error)),
          concatMap((reply) => this.#afterSuccess(reply)),
        );
      },
      (written) => disregard(written.data?.close()),
    );
  }

  #afterSuccess(reply: StateReply): Observable<WrittenState> {
    const returnedNs = this.#port.clock.nowNs();
    this.#settle(reply.state);
    const noBatch = (error: unknown): Observable<never> => {
      disregard(reply.data?.close());
      return throwError(() => error);
    };
    return concat(this.#lookAgain().pipe(catchError(noBatch)), of({ ...reply, returnedNs }));
  }

  /** A failed combination of arcs may have stopped between two of them: the driver is asked where it is. */
  #afterFailure(before: State, error: unknown): Observable<never> {
    return this.#port.getState().pipe(
      catchError(() => of(before)),
      concatMap((state) => {
        this.#settle(state);
        // The caller learns of the failure now; the batch is the pipeline's own business.
        disregard(this.#lookAgain());
        return throwError(() => error);
      }),
    );
  }

  #settle(state: State): void {
    this.#outstanding = false;
    const { current } = this.cell;
    this.cell.set({ state, sinceNs: state === current.state ? current.sinceNs : this.#port.clock.nowNs() });
  }
}
