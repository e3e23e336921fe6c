import { catchError, concat, concatMap, defer, finalize, map, of, tap, throwError, timeout, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import type { StallWatch } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { DataChannel, State, StateReply } from '../devices/port.js';
import { pathOf } from '../devices/protocol/migration-states.js';
import { longestWaitMs } from '../devices/remap-session.js';

/** How long the caller of `transition` is ready to wait. */
export interface TransitionOptions {
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
 * Writes device_state, while the remap pipeline of the device goes on serving what the driver demands meanwhile.
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
 * - **Emits** one `Arc` when the write has returned and the batch after it has ended; then **completes**.
 * - **Drops** nothing.
 * - **Fails** before the kernel is asked: VFIO_E_ARC (no such arc; some kernels lock up on blocked ones), VFIO_E_BUSY (another
 *   write is outstanding), VFIO_E_UNSUPPORTED (the device cannot migrate). After: VFIO_E_REFUSED (the remap irq is not enabled),
 *   VFIO_E_ACK_TIMEOUT (names how long user code blocked the event loop, if it did), VFIO_E_CANCELED, VFIO_E_DEADLINE (the write stays outstanding).
 * - **Releases** on unsubscribe: detaches. The write goes on, a later one is refused until it has returned, and a late data_fd is closed.
 *
 * @example
 * transition(device, 'pre-copy', { deadlineMs: 2000 }).subscribe(({ tookNs, data }) => console.log(tookNs, data));
 * @see deviceState, remapIrq
 */
export function transition(device: VfioDevice, to: State, options: TransitionOptions = {}): Observable<Arc> {
  return defer(() => {
    const { migration, clock, name } = device;
    const operation = `device_state ${to}`;
    device.checkOpen(operation);
    const from = device.currentState.state;
    if (migration === undefined) {
      throw new VfioError('VFIO_E_UNSUPPORTED', 'the device cannot migrate: its driver offers no VFIO_DEVICE_FEATURE_MIGRATION', { operation, device: name });
    }
    if (pathOf(migration.flags, from, to) === undefined) {
      throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it' : ''}`, { operation, device: name });
    }
    const deadlineMs = options.deadlineMs ?? longestWaitMs(device.remapSession?.agreement) + marginMs;
    const stalls = clock.watchStalls();
    const atNs = clock.nowNs();
    let failed: { readonly error: unknown } | undefined;
    let undelivered: DataChannel | undefined;
    const written = device.writeState(to).pipe(
      map((reply) => {
        undelivered = reply.data;
        return arc(device, from, reply, atNs);
      }),
      catchError((error: unknown) => {
        const explained = withStall(error, device, operation, stalls);
        failed = { error: explained };
        return concat(lookAgain(device), throwError(() => explained));
      }),
      // A transition is done when the batch after it is; its time is the time of the write.
      concatMap((done) => concat(lookAgain(device), of(done))),
    );
    return written.pipe(
      timeout({ first: deadlineMs, scheduler: clock.scheduler, with: () => throwError(() => (failed === undefined ? deadlinePassed(device, operation, deadlineMs, stalls) : failed.error)) }),
      tap(() => (undelivered = undefined)),
      finalize(() => {
        stalls.stop();
        disregard(undelivered?.close());
      }),
    );
  });
}

function arc(device: VfioDevice, from: State, reply: StateReply, atNs: bigint): Arc {
  const tookNs = device.clock.nowNs() - atNs;
  return { device: device.name, from, to: reply.state, atNs, tookNs, ...(reply.data === undefined ? {} : { data: reply.data }) };
}

/** The batch after a write, whatever its result; none where no pipeline serves the device or the write is still outstanding. */
function lookAgain(device: VfioDevice): Observable<never> {
  return defer(() => (device.currentState.going === undefined ? (device.remapSession?.requeryAll() ?? concat()) : concat()));
}

function deadlinePassed(device: VfioDevice, operation: string, deadlineMs: number, stalls: StallWatch): VfioError {
  const step = device.currentState.going === undefined ? 'the write has returned, but the batch after it has not ended' : 'the write stays outstanding, and no other can start before it returns';
  return new VfioError('VFIO_E_DEADLINE', `not done within ${deadlineMs} ms${stallNote(stalls)}; ${step}`, { operation, device: device.name });
}

/** A driver that waited in vain: the likeliest cause is user code that held the loop, so the error says whether it did. */
function withStall(error: unknown, device: VfioDevice, operation: string, stalls: StallWatch): unknown {
  if (!VfioError.is(error) || error.code !== 'VFIO_E_ACK_TIMEOUT') return error;
  const limitMs = longestWaitMs(device.remapSession?.agreement);
  const limit = limitMs === 0 ? '' : ` (it waits ${limitMs} ms at most)`;
  return new VfioError('VFIO_E_ACK_TIMEOUT', `the vendor driver got no ack before its own deadline${limit}${stallNote(stalls)}`, {
    operation,
    device: device.name,
    errno: error.errno,
    cause: error,
  });
}

/** Shorter than this is no stall but the usual noise of timers. */
const noticeableNs = 20n * nsPerMs;

function stallNote(stalls: StallWatch): string {
  const longest = stalls.longestNs();
  return longest < noticeableNs ? '; the event loop was free: is the remap pipeline subscribed, and does every operator in it answer' : `; user code blocked the event loop for ${longest / nsPerMs} ms: move that work to a thread`;
}
