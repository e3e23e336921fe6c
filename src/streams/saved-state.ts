import { catchError, concatMap, defer, EMPTY, filter, map, of, takeUntil, tap, throwError, type Observable } from 'rxjs';
import { untilAborted } from '../abort.js';
import { Cell } from '../cell.js';
import { VfioError } from '../errors.js';
import { ask, directCall, disregard, type Asker, type Leave } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, Chunk, DataChannel, PrecopyInfo, State } from '../devices/port.js';
import { hasState, isSaving } from '../devices/protocol/migration-states.js';
import { transition, type TransitionOptions } from './transition.js';

/** How a session of saving begins. */
export interface SaveOptions extends TransitionOptions {
  /** The state of the saving group in which it begins. Default: PRE_COPY where the device has it, else STOP_COPY. */
  readonly from?: 'pre-copy' | 'pre-copy-p2p' | 'stop-copy';
}

/** The state of a device that is being saved: one session, from its first state in the saving group to the last. */
export interface SavedState {
  readonly device: string;
  /**
   * The next bytes, as many as `maxBytes`; `quiet`: none now (ask again later, or go on to STOP_COPY); `end`: all there was, in STOP_COPY only.
   * One at a time (VFIO_E_BUSY). `into` is memory that may be filled in place of new one. Who unsubscribes loses what it brings. VFIO_E_NO_DEVICE once the device has left the saving group.
   */
  read(maxBytes: number, into?: Uint8Array): Call<Chunk>;
  /** What there is to read now; outside the PRE_COPY states VFIO_E_RANGE. One at a time with `read`. */
  precopy(): Call<PrecopyInfo>;
  /**
   * One estimate a round: a round ends where a read is `quiet`, and this is what there is for the next one.
   *
   * ```
   * read      ab-q   c-q   (de)|       q: quiet
   * rounds    r--s-----t---|           r: when the session began; |: STOP_COPY
   * ```
   *
   * Emits the latest at once. Drops nothing. Completes when the device leaves the PRE_COPY states. Fails never; releases nothing.
   */
  readonly rounds: Observable<PrecopyInfo>;
  /** Closes the data_fd; the device stays in its state. Idempotent. */
  close(): Call<void>;
}

/**
 * Begins to save a device: takes it into the saving group, and hands out what it has to say. Inside the group the session goes on,
 * so `transition` takes the device on to PRE_COPY_P2P and STOP_COPY. The same for both generations of device_state.
 *
 * ```
 * state        --[p--]--        ----      [c--]
 * savedState   --- --(a|)
 * a.read       --- ----<b,b,b,q>---<b,b,q>- ------<b,b,b,b,e>|     q: quiet, e: end
 * a.rounds     --- --r-s        ---t      - --|
 * ```
 *
 * - **Emits** one `SavedState`, which its receiver owns and closes; then **completes**. **Drops** nothing.
 * - **Fails** as `transition` does; with VFIO_E_BUSY where the device is in the saving group already, for the session is somebody else's.
 * - **Releases** on unsubscribe what `transition` does: a data_fd that comes late is closed.
 *
 * @example
 * savedState(device, { deadlineMs: 2000 }).subscribe((saved) => saved.read(1 << 20).subscribe(({ kind }) => console.log(saved.device, kind)));
 * @see resumeState, transition
 */
export function savedState(device: VfioDevice, options: SaveOptions = {}): Call<SavedState> {
  return defer(() => {
    const { state } = device.currentState;
    if (isSaving(state)) {
      throw new VfioError('VFIO_E_BUSY', `the device is in ${state}: its state is being saved already`, { operation: 'savedState', device: device.name });
    }
    const from = options.from ?? (hasState(device.migration?.flags ?? 0, 'pre-copy') ? 'pre-copy' : 'stop-copy');
    return transition(device, from, options).pipe(concatMap(({ data }) => begun(device, data, from).pipe(untilAborted(options.signal, { operation: 'savedState', device: device.name }))));
  });
}

/** PRE_COPY begins with an estimate of its first round. */
function begun(device: VfioDevice, data: DataChannel | undefined, from: State): Call<SavedState> {
  if (data === undefined) {
    return throwError(() => new VfioError('VFIO_E_PROTOCOL', 'the device went into the saving group and made no session: report that to the driver\'s author', { operation: `device_state ${from}`, device: device.name }));
  }
  if (!isPreCopy(from)) return of(new Session(device, data, undefined));
  const close = (): void => disregard(data.close());
  return data.precopy().pipe(
    tap({ error: close, unsubscribe: close }),
    map((first) => new Session(device, data, new Cell(first))),
  );
}

function isPreCopy(state: State): boolean {
  return isSaving(state) && state !== 'stop-copy';
}

class Session implements SavedState {
  readonly device: string;
  readonly rounds: Observable<PrecopyInfo>;
  private readonly of: VfioDevice;
  private readonly data: DataChannel;
  private readonly estimates: Cell<PrecopyInfo> | undefined;

  constructor(device: VfioDevice, data: DataChannel, rounds: Cell<PrecopyInfo> | undefined) {
    this.device = device.name;
    this.of = device;
    this.data = data;
    this.estimates = rounds;
    this.rounds = rounds === undefined ? EMPTY : defer(() => rounds.values.pipe(takeUntil(device.state.pipe(filter(({ state }) => !isPreCopy(state))))));
  }

  read(maxBytes: number, into?: Uint8Array): Call<Chunk> {
    return directCall((asker) => new Reading(asker, (quiet) => this.roundEnds(quiet)).begin(this.data.read(maxBytes, into)));
  }

  precopy(): Call<PrecopyInfo> {
    return this.data.precopy();
  }

  close(): Call<void> {
    return defer(() => {
      this.estimates?.complete();
      return this.data.close();
    });
  }

  private roundEnds(quiet: Chunk): Call<Chunk> {
    if (!isPreCopy(this.of.currentState.state)) return of(quiet);
    return this.data.precopy().pipe(
      tap((info) => this.estimates?.set(info)),
      map(() => quiet),
      // The device has gone on to STOP_COPY since the read began: quiet it was, and there is no round after it.
      catchError((error: unknown) => {
        if (VfioError.is(error) && error.errno === 'EINVAL') return of(quiet);
        throw error;
      }),
    );
  }
}

/** A read, and behind one that is quiet what follows from that; not `steps`, since there is one for each chunk. */
class Reading implements Asker<Chunk> {
  private readonly asker: Asker<Chunk>;
  private readonly quiet: (chunk: Chunk) => Call<Chunk>;
  private isAnswered = false;
  private leave: Leave | undefined;

  constructor(asker: Asker<Chunk>, quiet: (chunk: Chunk) => Call<Chunk>) {
    this.asker = asker;
    this.quiet = quiet;
  }

  begin(read: Call<Chunk>): Leave {
    const leave = ask(read, this);
    if (!this.isAnswered) this.leave = leave;
    return () => this.leave?.();
  }

  get closed(): boolean {
    return this.asker.closed;
  }

  answered(chunk: Chunk): void {
    this.isAnswered = true;
    this.leave = undefined;
    if (chunk.kind !== 'quiet') this.asker.answered(chunk);
    else if (!this.closed) this.leave = ask(this.quiet(chunk), this.asker);
  }

  failed(error: unknown): void {
    this.asker.failed(error);
  }
}
