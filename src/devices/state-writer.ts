import { map } from 'rxjs';
import { Cell } from '../cell.js';
import { VfioError } from '../errors.js';
import { directCall, disregard, type Asker, type Leave } from './call.js';
import type { Call, DevicePort, State, StateReply } from './port.js';
import { take, type Steps } from './steps.js';

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

/** What there is to be waited for; undefined where that is nothing. */
export type Before = Call<unknown> | undefined;

/** What stands around a write of device_state, in this order. */
export interface WriteHooks {
  /** Completes when the write may start, which it does inside that completion. Who unsubscribes before takes the write back. */
  readonly mayStart: () => Before;
  /** Done before the driver is asked; where it fails the driver is not asked. */
  readonly prepare: (to: State) => Before;
  /** The last moment: what it throws, the write fails with. */
  readonly aboutToAsk?: (to: State) => void;
  /** Says in the user's words why the driver refused: the error that the caller gets. */
  readonly explain: (error: unknown, to: State) => Call<unknown>;
  /** Done when the device is in this state, whether it got there or stayed. Never fails. */
  readonly adopt: (state: State) => Before;
  /** The batch after the write, whatever its result. */
  readonly lookAgain: () => Before;
}

/**
 * Owns the one write of device_state (or reset) that a device may have outstanding.
 *
 * The kernel's call cannot be taken back, so it belongs to the writer and not to a subscriber: who unsubscribes detaches,
 * the write stays outstanding and refuses a second one. What it brings home late is still the device's state, every region
 * is still looked at once more, and a late data_fd is closed.
 */
export class StateWriter {
  readonly #port: DevicePort;
  readonly #hooks: WriteHooks;
  readonly cell: Cell<StateView>;
  #claimed = false;
  #outstanding = false;

  constructor(port: DevicePort, initial: State, hooks: WriteHooks) {
    this.#port = port;
    this.#hooks = hooks;
    this.cell = new Cell<StateView>({ state: initial, sinceNs: port.clock.nowNs() });
  }

  /** The driver is being asked, and has not answered. */
  get outstanding(): boolean {
    return this.#outstanding;
  }

  /**
   * Emits when the write has returned and the batch after it has ended. Fails with VFIO_E_BUSY while another write waits or is
   * outstanding; with what the port says, at once; with what ended the pipeline before that batch.
   *
   * @param begun told when the driver is about to be asked
   */
  write(to: State, begun?: () => void): Call<WrittenState> {
    return this.#one(to, `device_state ${to}`, () => this.#port.setState(to), begun);
  }

  /** VFIO_DEVICE_RESET: as far as layouts go, a write of RUNNING. `around` is what surrounds the call itself. */
  reset(around = (call: Call<StateReply>): Call<StateReply> => call): Call<WrittenState> {
    return this.#one('running', 'VFIO_DEVICE_RESET', () => around(this.#port.reset().pipe(map((): StateReply => ({ state: 'running' })))));
  }

  #one(to: State, operation: string, call: () => Call<StateReply>, begun?: () => void): Call<WrittenState> {
    return directCall<WrittenState>((asker) => {
      const waiting = new Waiting(asker);
      const leave = take(this.#turn(to, operation, call, () => {
        waiting.begun();
        begun?.();
      }), waiting);
      return leave === undefined ? undefined : () => waiting.leaves(leave);
    });
  }

  /** The place of the one write is held from the subscription on. */
  *#turn(to: State, operation: string, call: () => Call<StateReply>, begun: () => void): Steps<WrittenState> {
    if (this.#claimed) {
      const { going } = this.cell.current;
      const what = going === undefined ? 'another write of device_state waits for its start' : `the write of ${going} has not returned yet; one at a time`;
      throw new VfioError('VFIO_E_BUSY', what, { operation, device: this.#port.name, errno: 'EBUSY' });
    }
    this.#claimed = true;
    let started = false;
    try {
      const start = this.#hooks.mayStart();
      if (start !== undefined) yield start;
      started = true;
    } finally {
      if (!started) this.#claimed = false;
    }
    begun();
    return yield* this.#write(to, call);
  }

  *#write(to: State, call: () => Call<StateReply>): Steps<WrittenState> {
    const before = this.cell.current;
    this.#outstanding = true;
    this.cell.set({ ...before, going: to });
    let reply: StateReply;
    try {
      const prepared = this.#hooks.prepare(to);
      if (prepared !== undefined) yield prepared;
      this.#hooks.aboutToAsk?.(to);
      reply = (yield call()) as StateReply;
    } catch (error) {
      return yield* this.#fail(before.state, to, error);
    }
    const returnedNs = this.#port.clock.nowNs();
    yield* this.#settle(reply.state);
    try {
      const looked = this.#hooks.lookAgain();
      if (looked !== undefined) yield looked;
    } catch (error) {
      disregard(reply.data?.close());
      throw error;
    }
    return { ...reply, returnedNs };
  }

  /** A failed combination of arcs may have stopped between two of them: the driver is asked where it is. */
  *#fail(before: State, to: State, error: unknown): Steps<never> {
    const explained = yield this.#hooks.explain(error, to);
    let state = before;
    try {
      state = (yield this.#port.getState()) as State;
    } catch {
      // As far as anybody knows, it has not moved.
    }
    yield* this.#settle(state);
    // The caller learns of the failure now; the batch is the pipeline's own business.
    disregard(this.#hooks.lookAgain());
    throw explained;
  }

  /** The mappings follow before anybody is told, and before another write may start. */
  *#settle(state: State): Steps<void> {
    const adopted = this.#hooks.adopt(state);
    if (adopted !== undefined) yield adopted;
    this.#outstanding = false;
    this.#claimed = false;
    const { current } = this.cell;
    this.cell.set({ state, sinceNs: state === current.state ? current.sinceNs : this.#port.clock.nowNs() });
  }
}

/** Who waits for a write: takes it back until it begins, and leaves it to itself from then on. */
class Waiting implements Asker<WrittenState> {
  readonly #asker: Asker<WrittenState>;
  #begun = false;
  #left = false;

  constructor(asker: Asker<WrittenState>) {
    this.#asker = asker;
  }

  begun(): void {
    this.#begun = true;
  }

  leaves(takeBack: Leave): void {
    this.#left = true;
    if (!this.#begun) takeBack();
  }

  get closed(): boolean {
    return !this.#begun && this.#asker.closed;
  }

  answered(written: WrittenState): void {
    if (this.#left || this.#asker.closed) disregard(written.data?.close());
    else this.#asker.answered(written);
  }

  failed(error: unknown): void {
    if (!this.#left) this.#asker.failed(error);
  }
}
