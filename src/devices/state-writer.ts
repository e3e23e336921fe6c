import { map } from 'rxjs';
import { Cell } from '../cell.js';
import { VfioError } from '../errors.js';
import { ask, directCall, disregard, type Asker, type Leave } from './call.js';
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
  readonly #place: Place;

  constructor(port: DevicePort, initial: State, hooks: WriteHooks) {
    this.#place = { port, hooks, cell: new Cell<StateView>({ state: initial, sinceNs: port.clock.nowNs() }), claimed: false, outstanding: false };
  }

  get cell(): Cell<StateView> {
    return this.#place.cell;
  }

  /** The driver is being asked, and has not answered. */
  get outstanding(): boolean {
    return this.#place.outstanding;
  }

  /**
   * Emits when the write has returned and the batch after it has ended. Fails with VFIO_E_BUSY while another write waits or is
   * outstanding; with what the port says, at once; with what ended the pipeline before that batch.
   *
   * @param begun told when the driver is about to be asked
   */
  write(to: State, begun?: () => void): Call<WrittenState> {
    return this.#one({ to, operation: `device_state ${to}`, call: () => this.#place.port.setState(to), begun });
  }

  /** VFIO_DEVICE_RESET: as far as layouts go, a write of RUNNING. `around` is what surrounds the call itself. */
  reset(around = (call: Call<StateReply>): Call<StateReply> => call): Call<WrittenState> {
    const call = (): Call<StateReply> => around(this.#place.port.reset().pipe(map((): StateReply => ({ state: 'running' }))));
    return this.#one({ to: 'running', operation: 'VFIO_DEVICE_RESET', call, begun: undefined });
  }

  #one(wish: Wish): Call<WrittenState> {
    return directCall<WrittenState>((asker) => new Turn(this.#place, wish, asker).start());
  }
}

/** What the turns of one device share. */
interface Place {
  readonly port: DevicePort;
  readonly hooks: WriteHooks;
  readonly cell: Cell<StateView>;
  /** A write waits for its start, or is outstanding. */
  claimed: boolean;
  outstanding: boolean;
}

/** What is wanted of the driver. */
interface Wish {
  readonly to: State;
  readonly operation: string;
  readonly call: () => Call<StateReply>;
  readonly begun: (() => void) | undefined;
}

type Early = { readonly answer: unknown } | { readonly error: unknown };

const nothing: Early = { answer: undefined };

/** In this order; where `prepare` or `ask` fails, `explain` and `where` come before `adopt`, and nothing after it. */
type Step = 'start' | 'prepare' | 'ask' | 'explain' | 'where' | 'adopt' | 'look' | 'over';

/**
 * One write on its way; it is itself who waits for each of its steps. Callbacks and not a generator: a migration writes to each of its
 * devices several times while none of them runs.
 */
class Turn implements Asker<unknown> {
  readonly #place: Place;
  readonly #wish: Wish;
  readonly #asker: Asker<WrittenState>;
  #step: Step = 'start';
  /** What a call has brought before it returned. */
  #asking = false;
  #early: Early | undefined;
  /** Takes the write back, as long as it has not begun. */
  #takeBack: Leave | undefined;
  /** Nobody waits for it any more. */
  #left = false;
  /** Where the device is: before, then after. */
  #state: State;
  #reply: StateReply | undefined;
  #returnedNs = 0n;
  /** What the caller gets where it failed. */
  #failure: { error: unknown } | undefined;

  constructor(place: Place, wish: Wish, asker: Asker<WrittenState>) {
    this.#place = place;
    this.#wish = wish;
    this.#asker = asker;
    this.#state = place.cell.current.state;
  }

  start(): Leave | undefined {
    if (this.#asker.closed) return undefined;
    if (this.#place.claimed) {
      this.#asker.failed(this.#busy());
      return undefined;
    }
    this.#place.claimed = true;
    this.#take('start');
    return this.#step === 'over' ? undefined : () => this.#leaves();
  }

  get closed(): boolean {
    return this.#step === 'over' || (this.#step === 'start' && this.#asker.closed);
  }

  answered(answer: unknown): void {
    if (this.#asking) this.#early = { answer };
    else this.#answered(answer);
  }

  failed(error: unknown): void {
    if (this.#asking) this.#early = { error };
    else this.#failedWith(error);
  }

  #answered(answer: unknown): void {
    switch (this.#step) {
      case 'start': this.#begin(); return;
      case 'prepare': this.#take('ask'); return;
      case 'ask':
        if (answer === undefined) {
          this.#failedWith(new VfioError('VFIO_E_PROTOCOL', 'the port has not said where the device is', { operation: this.#wish.operation, device: this.#place.port.name }));
          return;
        }
        this.#reply = answer as StateReply;
        this.#returnedNs = this.#place.port.clock.nowNs();
        this.#state = this.#reply.state;
        this.#take('adopt');
        return;
      case 'explain':
        this.#failure = { error: answer };
        this.#take('where');
        return;
      case 'where':
        this.#state = answer as State;
        this.#take('adopt');
        return;
      case 'adopt': this.#settled(); return;
      case 'look': this.#done(); return;
      case 'over': return;
    }
  }

  #failedWith(error: unknown): void {
    switch (this.#step) {
      case 'start':
        this.#giveBack();
        this.#fail(error);
        return;
      case 'prepare':
      case 'ask':
        this.#failure = { error };
        this.#take('explain');
        return;
      case 'explain': this.#take('where'); return;
      // As far as anybody knows, it has not moved.
      case 'where': this.#take('adopt'); return;
      case 'adopt': this.#settled(); return;
      case 'look':
        disregard(this.#reply?.data?.close());
        this.#fail(error);
        return;
      case 'over': return;
    }
  }

  /** The next step. One that is over at once goes on when whoever made it so has returned: a batch ends before what waits for it. What is thrown is a failure. */
  #take(step: Step): void {
    this.#step = step;
    this.#early = undefined;
    this.#asking = true;
    try {
      const call = this.#callOf(step);
      if (call === undefined) this.#early = nothing;
      else if (step === 'start') this.#takeBack = ask(call, this);
      else ask(call, this);
    } catch (error) {
      this.#early = { error };
    }
    this.#asking = false;
    const early: Early | undefined = this.#early;
    if (early === undefined) return;
    if ('error' in early) this.#failedWith(early.error);
    else this.#answered(early.answer);
  }

  #callOf(step: Step): Before {
    const { hooks, port } = this.#place;
    const { to, call } = this.#wish;
    switch (step) {
      case 'start': return hooks.mayStart();
      case 'prepare': return hooks.prepare(to);
      case 'ask':
        hooks.aboutToAsk?.(to);
        return call();
      case 'explain': return hooks.explain(this.#failure?.error, to);
      // A failed combination of arcs may have stopped between two of them: the driver is asked where it is.
      case 'where': return port.getState();
      // The mappings follow before anybody is told, and before another write may start.
      case 'adopt': return hooks.adopt(this.#state);
      case 'look': return hooks.lookAgain();
      case 'over': return undefined;
    }
  }

  #begin(): void {
    if (this.#asker.closed) {
      this.#giveBack();
      return;
    }
    const { cell } = this.#place;
    this.#step = 'prepare';
    this.#wish.begun?.();
    const { state, sinceNs } = cell.current;
    this.#state = state;
    this.#place.outstanding = true;
    cell.set({ state, sinceNs, going: this.#wish.to });
    this.#take('prepare');
  }

  #settled(): void {
    const { port, cell } = this.#place;
    const { current } = cell;
    this.#place.outstanding = false;
    this.#place.claimed = false;
    cell.set({ state: this.#state, sinceNs: this.#state === current.state ? current.sinceNs : port.clock.nowNs() });
    if (this.#failure === undefined) {
      this.#take('look');
      return;
    }
    // The caller learns of the failure now; the batch is the pipeline's own business.
    disregard(this.#place.hooks.lookAgain());
    this.#fail(this.#failure.error);
  }

  #done(): void {
    this.#step = 'over';
    const { state, data } = this.#reply as StateReply;
    const returnedNs = this.#returnedNs;
    if (this.#left || this.#asker.closed) disregard(data?.close());
    else this.#asker.answered(data === undefined ? { state, returnedNs } : { state, data, returnedNs });
  }

  #fail(error: unknown): void {
    this.#step = 'over';
    if (!this.#left) this.#asker.failed(error);
  }

  /** From its beginning on it goes on by itself. */
  #leaves(): void {
    this.#left = true;
    if (this.#step !== 'start') return;
    this.#giveBack();
    this.#takeBack?.();
  }

  #giveBack(): void {
    this.#step = 'over';
    this.#place.claimed = false;
  }

  #busy(): VfioError {
    const { port, cell } = this.#place;
    const { going } = cell.current;
    const what = going === undefined ? 'another write of device_state waits for its start' : `the write of ${going} has not returned yet; one at a time`;
    return new VfioError('VFIO_E_BUSY', what, { operation: this.#wish.operation, device: port.name, errno: 'EBUSY' });
  }
}
