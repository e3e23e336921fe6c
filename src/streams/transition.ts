import { takeWhile, type Observable, type Unsubscribable } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { VfioError } from '../errors.js';
import { timerMs, type StallWatch } from '../clock.js';
import { ask, directCall, type Asker, type Leave } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { DataChannel, State } from '../devices/port.js';
import { wayOf } from '../devices/protocol/migration-ways.js';
import { longestWaitMs } from '../devices/remap-session.js';
import type { WrittenState } from '../devices/state-writer.js';

/** How long the caller of `transition` is ready to wait. */
export interface TransitionOptions extends Abortable {
  /** How long the caller waits, ms. Default: what the driver may wait at most for its acks, and 5000 more. */
  readonly deadlineMs?: number;
}

/** One arc (or combination of arcs) that a device has gone. */
export interface Arc {
  readonly device: string;
  readonly from: State;
  readonly to: State;
  /** When the write began, ns. */
  readonly atNs: bigint;
  /** Until the write returned, ns. */
  readonly tookNs: bigint;
  /** The new data_fd, where the path made one. Its receiver owns it. */
  readonly data?: DataChannel;
}

const marginMs = 5000;
const nsPerMs = 1_000_000n;

/**
 * Writes device_state, in the generation that the device speaks, while the remap pipeline of the device goes on serving what
 * the driver demands meanwhile.
 *
 * ```
 * state       --[p-----]----     the write is blocked between the brackets
 * signal      --1 ----------     the driver demands a remap, and waits
 * unmap       -- ------(01)-     served meanwhile
 * ack         -- ------1----
 * after       -- ------b----     then every region is looked at once more
 * transition  -- ------(a|)-
 * ```
 *
 * - **Emits** one `Arc` when the write has returned and the batch after it has ended; then **completes**. A failure comes at once, its batch follows.
 * - **Drops** nothing.
 * - **Fails** before the kernel is asked: VFIO_E_ARC (no such arc; some kernels lock up on blocked ones), VFIO_E_BUSY (another
 *   write is outstanding), VFIO_E_UNSUPPORTED (the device cannot migrate). After: VFIO_E_REFUSED (the remap irq is not enabled),
 *   VFIO_E_ACK_TIMEOUT (names how long user code blocked the event loop, if it did), VFIO_E_CANCELED; VFIO_E_DEADLINE and, by `signal`, VFIO_E_ABORTED (the write stays outstanding).
 * - **Releases** on unsubscribe: detaches. The write goes on, a later one is refused until it has returned, and a late data_fd is closed.
 *
 * @example
 * transition(device, 'pre-copy', { deadlineMs: 2000 }).subscribe(({ tookNs, data }) => console.log(tookNs, data));
 * @see deviceState, remapIrq, health
 */
export function transition(device: VfioDevice, to: State, options: TransitionOptions = {}): Observable<Arc> {
  const begun = directCall<Arc>((asker) => {
    try {
      checkWay(device, to);
    } catch (error) {
      asker.failed(error);
      return undefined;
    }
    const deadlineMs = options.deadlineMs ?? longestWaitMs(device.remapSession?.agreement) + marginMs;
    return new Write(device, to, deadlineMs, asker).start(to);
  });
  return begun.pipe(untilAborted(options.signal, { operation: `device_state ${to}`, device: device.name }));
}

/** Throws what the driver need not be asked for. */
function checkWay(device: VfioDevice, to: State): void {
  const { migration, name, currentState: { state: from, going } } = device;
  const operation = `device_state ${to}`;
  device.checkOpen(operation);
  if (migration === undefined) {
    throw new VfioError('VFIO_E_UNSUPPORTED', 'the device cannot migrate: its driver offers neither VFIO_DEVICE_FEATURE_MIGRATION nor a migration region', { operation, device: name });
  }
  // While a write is outstanding nobody knows the state that this one would begin in: that is VFIO_E_BUSY, whatever the arc.
  if (going === undefined && wayOf(migration, from, to) === undefined) {
    throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it' : ''}`, { operation, device: name });
  }
}

/** A write that has begun: callbacks, since what operators would cost for each device falls into the downtime of a migration. */
class Write implements Asker<WrittenState> {
  readonly #device: VfioDevice;
  readonly #operation: string;
  readonly #deadlineMs: number;
  readonly #asker: Asker<Arc>;
  readonly #stalls: StallWatch;
  readonly #from: State;
  #atNs: bigint | undefined;
  #leave: Leave | undefined;
  #deadline: Unsubscribable | undefined;
  #over = false;

  constructor(device: VfioDevice, to: State, deadlineMs: number, asker: Asker<Arc>) {
    this.#device = device;
    this.#operation = `device_state ${to}`;
    this.#deadlineMs = deadlineMs;
    this.#asker = asker;
    this.#from = device.currentState.state;
    this.#stalls = device.clock.watchStalls();
  }

  start(to: State): Leave | undefined {
    const { clock } = this.#device;
    this.#leave = ask(this.#device.writeState(to, () => (this.#atNs = clock.nowNs())), this);
    if (this.#over) return undefined;
    this.#deadline = clock.scheduler.schedule(() => this.#late(), timerMs(this.#deadlineMs));
    return () => this.#detach();
  }

  get closed(): boolean {
    return this.#over || this.#asker.closed;
  }

  answered({ state, returnedNs, data }: WrittenState): void {
    this.#end();
    const atNs = this.#atNs ?? returnedNs;
    const arc = { device: this.#device.name, from: this.#from, to: state, atNs, tookNs: returnedNs - atNs };
    this.#asker.answered(data === undefined ? arc : { ...arc, data });
  }

  failed(error: unknown): void {
    const explained = this.#withStall(error);
    this.#end();
    this.#asker.failed(explained);
  }

  #late(): void {
    this.#leave?.();
    const error = this.#deadlinePassed();
    this.#end();
    this.#asker.failed(error);
  }

  #detach(): void {
    if (this.#over) return;
    this.#end();
    this.#leave?.();
  }

  #end(): void {
    this.#over = true;
    this.#deadline?.unsubscribe();
    this.#stalls.stop();
  }

  #deadlinePassed(): VfioError {
    const device = this.#device;
    const outstanding = device.currentState.going !== undefined;
    const step = this.#atNs === undefined
      ? 'the write was not begun: the remap pipeline did not come to rest'
      : outstanding
        ? 'the write stays outstanding, and no other can start before it returns'
        : 'the write has returned, but the batch after it has not ended';
    if (outstanding && this.#atNs !== undefined) {
      device.stuck.report({ call: this.#operation, sinceNs: this.#atNs }, device.state.pipe(takeWhile(({ going }) => going !== undefined)));
    }
    if (outstanding) device.remapSession?.deadlinePassed();
    return new VfioError('VFIO_E_DEADLINE', `not done within ${this.#deadlineMs} ms${this.#stallNote(this.#deadlineMs)}; ${step}`, { operation: this.#operation, device: device.name });
  }

  /** A driver that waited in vain: the likeliest cause is user code that held the loop, so the error says whether it did. */
  #withStall(error: unknown): unknown {
    if (!VfioError.is(error) || error.code !== 'VFIO_E_ACK_TIMEOUT') return error;
    const limitMs = longestWaitMs(this.#device.remapSession?.agreement);
    const limit = limitMs === 0 ? '' : ` (it waits ${limitMs} ms at most)`;
    return new VfioError('VFIO_E_ACK_TIMEOUT', `the vendor driver got no ack before its own deadline${limit}${this.#stallNote(limitMs)}`, {
      operation: this.#operation,
      device: this.#device.name,
      errno: error.errno,
      cause: error,
    });
  }

  /** Says who kept the driver waiting: user code, where it held the loop for a good part of the time that the driver waits. */
  #stallNote(limitMs: number): string {
    const longest = this.#stalls.longestNs();
    const noticeable = (BigInt(Math.ceil(limitMs)) * nsPerMs) / 2n;
    if (longest > 0n && longest >= noticeable) return `; user code blocked the event loop for ${longest / nsPerMs} ms: move that work to a thread`;
    return '; the event loop was free: is the remap pipeline subscribed, and do its operators and holders answer in time';
  }
}
