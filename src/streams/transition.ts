import { catchError, defer, finalize, map, takeWhile, throwError, timeout, type Observable } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { VfioError } from '../errors.js';
import { timerMs, type StallWatch } from '../clock.js';
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
  return defer(() => {
    const { migration, clock, name } = device;
    const operation = `device_state ${to}`;
    device.checkOpen(operation);
    const { state: from, going } = device.currentState;
    if (migration === undefined) {
      throw new VfioError('VFIO_E_UNSUPPORTED', 'the device cannot migrate: its driver offers neither VFIO_DEVICE_FEATURE_MIGRATION nor a migration region', { operation, device: name });
    }
    // While a write is outstanding nobody knows the state that this one would begin in: that is VFIO_E_BUSY, whatever the arc.
    if (going === undefined && wayOf(migration, from, to) === undefined) {
      throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it' : ''}`, { operation, device: name });
    }
    const deadlineMs = options.deadlineMs ?? longestWaitMs(device.remapSession?.agreement) + marginMs;
    const stalls = clock.watchStalls();
    let atNs: bigint | undefined;
    const begun = (): void => {
      atNs = clock.nowNs();
    };
    return device.writeState(to, begun).pipe(
      map((written) => arcOf(written, { device: name, from, atNs: atNs ?? written.returnedNs })),
      timeout({ first: timerMs(deadlineMs), scheduler: clock.scheduler, with: () => throwError(() => deadlinePassed(device, operation, deadlineMs, stalls, atNs)) }),
      catchError((error: unknown) => throwError(() => withStall(error, device, operation, stalls))),
      finalize(() => stalls.stop()),
    );
  }).pipe(untilAborted(options.signal, { operation: `device_state ${to}`, device: device.name }));
}

function arcOf({ state, returnedNs, data }: WrittenState, at: Pick<Arc, 'device' | 'from' | 'atNs'>): Arc {
  return { ...at, to: state, tookNs: returnedNs - at.atNs, ...(data === undefined ? {} : { data }) };
}

function deadlinePassed(device: VfioDevice, operation: string, deadlineMs: number, stalls: StallWatch, atNs: bigint | undefined): VfioError {
  const outstanding = device.currentState.going !== undefined;
  const step = atNs === undefined
    ? 'the write was not begun: the remap pipeline did not come to rest'
    : outstanding
      ? 'the write stays outstanding, and no other can start before it returns'
      : 'the write has returned, but the batch after it has not ended';
  if (outstanding && atNs !== undefined) {
    device.stuck.report({ call: operation, sinceNs: atNs }, device.state.pipe(takeWhile(({ going }) => going !== undefined)));
  }
  if (outstanding) device.remapSession?.deadlinePassed();
  return new VfioError('VFIO_E_DEADLINE', `not done within ${deadlineMs} ms${stallNote(stalls, deadlineMs)}; ${step}`, { operation, device: device.name });
}

/** A driver that waited in vain: the likeliest cause is user code that held the loop, so the error says whether it did. */
function withStall(error: unknown, device: VfioDevice, operation: string, stalls: StallWatch): unknown {
  if (!VfioError.is(error) || error.code !== 'VFIO_E_ACK_TIMEOUT') return error;
  const limitMs = longestWaitMs(device.remapSession?.agreement);
  const limit = limitMs === 0 ? '' : ` (it waits ${limitMs} ms at most)`;
  return new VfioError('VFIO_E_ACK_TIMEOUT', `the vendor driver got no ack before its own deadline${limit}${stallNote(stalls, limitMs)}`, {
    operation,
    device: device.name,
    errno: error.errno,
    cause: error,
  });
}

/** Says who kept the driver waiting: user code, where it held the loop for a good part of the time that the driver waits. */
function stallNote(stalls: StallWatch, limitMs: number): string {
  const longest = stalls.longestNs();
  const noticeable = (BigInt(Math.ceil(limitMs)) * nsPerMs) / 2n;
  if (longest > 0n && longest >= noticeable) return `; user code blocked the event loop for ${longest / nsPerMs} ms: move that work to a thread`;
  return '; the event loop was free: is the remap pipeline subscribed, and do its operators and holders answer in time';
}
