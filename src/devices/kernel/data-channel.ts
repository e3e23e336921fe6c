import { catchError, concatMap, defer, map, of, tap, throwError } from 'rxjs';
import { realClock } from '../../clock.js';
import { warningChannel } from '../../diagnostics.js';
import { VfioError } from '../../errors.js';
import { nowCall, ownedCall } from '../call.js';
import type { LaneRequest, LaneResult } from '../linux/lane-request.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, Chunk, DataChannel, PrecopyInfo } from '../port.js';
import { VFIO_MIG_GET_PRECOPY_INFO } from '../uapi/constants.js';
import { encodePrecopyQuery, notPreCopying, precopyOperation, readPrecopyInfo } from '../uapi/precopy-info.js';

/** What one read may ask for, bytes. */
const mostBytes = 16 * 1024 * 1024;

/** What a data channel needs of its port. */
export interface ChannelParts {
  readonly fd: number;
  readonly direction: 'save' | 'resume';
  readonly calls: Syscalls;
  readonly device: string;
  /** Makes a call on the channel's lane; closing the port waits for it. */
  readonly submit: (request: LaneRequest) => Call<LaneResult>;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
  /** True where 0 bytes are the end for good: in STOP_COPY. */
  readonly final: () => boolean;
  /** The user has opted in to PRECOPY_INFOv2. */
  readonly precopyFlags: boolean;
  /** Told when the fd is closed. */
  readonly closed: () => void;
}

/**
 * A data_fd. Reads and writes may block in the driver, so they run on a lane of their own, one at a time.
 *
 * The end of the data for now is ENOMSG by the uAPI; some drivers answer 0 instead, which is the final end only in
 * STOP_COPY.
 */
export class KernelDataChannel implements DataChannel {
  readonly direction: 'save' | 'resume';
  readonly #parts: ChannelParts;
  #busy = false;
  #closed = false;
  #warned = false;

  constructor(parts: ChannelParts) {
    this.direction = parts.direction;
    this.#parts = parts;
  }

  /** At most 16 MiB at once (VFIO_E_RANGE). */
  read(maxBytes: number, into?: Uint8Array): Call<Chunk> {
    const operation = 'read data_fd';
    const { fd, device } = this.#parts;
    return defer(() => {
      this.#requireOpen(operation);
      if (!Number.isSafeInteger(maxBytes) || maxBytes <= 0 || maxBytes > mostBytes) {
        throw new VfioError('VFIO_E_RANGE', `between 1 and ${mostBytes} bytes a read, not ${maxBytes}`, { operation, device });
      }
      // Asked before, not after: a state that changes meanwhile must not turn "no more for now" into the end.
      const final = this.#parts.final();
      return this.#alone(operation, () =>
        this.#parts.submit({ op: 'read', fd, length: maxBytes, into, operation, device }).pipe(
          map(({ value, bytes }): Chunk => {
            if (value > 0) return { kind: 'bytes', bytes };
            if (!final) this.#warnOfZero();
            return { kind: final ? 'end' : 'quiet' };
          }),
          catchError((error: unknown) => (VfioError.is(error) && error.errno === 'ENOMSG' ? of<Chunk>({ kind: 'quiet' }) : throwError(() => error))),
        ),
      );
    });
  }

  /** All of `bytes`, however little the driver takes at once; 0 bytes are not even shown to it. */
  write(bytes: Uint8Array): Call<void> {
    const operation = 'write data_fd';
    return defer(() => {
      this.#requireOpen(operation);
      return bytes.length === 0 ? of(undefined) : this.#alone(operation, () => this.#writeAll(bytes, operation));
    });
  }

  precopy(): Call<PrecopyInfo> {
    const { fd, device, precopyFlags } = this.#parts;
    const names = { operation: precopyOperation, device };
    return defer(() => {
      this.#requireOpen(precopyOperation);
      if (this.direction === 'resume') throw notPreCopying(names);
      return this.#alone(precopyOperation, () =>
        this.#parts.submit({ op: 'ioctl', fd, request: VFIO_MIG_GET_PRECOPY_INFO, argument: encodePrecopyQuery(), ...names }).pipe(
          map(({ bytes }) => readPrecopyInfo(bytes, precopyFlags, device)),
          catchError((error: unknown) => throwError(() => (VfioError.is(error) && error.errno === 'EINVAL' ? notPreCopying(names, error) : error))),
        ),
      );
    });
  }

  close(): Call<void> {
    return nowCall(() => this.release());
  }

  /** While a thread is in a call on it the fd stays open: its number must not go to another file. */
  release(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (!this.#busy) this.#closeFd();
  }

  #writeAll(bytes: Uint8Array, operation: string): Call<void> {
    const { fd, device } = this.#parts;
    return this.#parts.submit({ op: 'write', fd, bytes, operation, device }).pipe(
      concatMap(({ value }) => {
        if (value <= 0) throw new VfioError('VFIO_E_PROTOCOL', `the driver took ${value} of ${bytes.length} bytes`, { operation, device });
        if (value === bytes.length) return of(undefined);
        this.#requireOpen(operation);
        return this.#writeAll(bytes.subarray(value), operation);
      }),
    );
  }

  /** Said once a session: it is asked again and again. */
  #warnOfZero(): void {
    if (this.#warned || !warningChannel.hasSubscribers) return;
    this.#warned = true;
    const what = 'read() of the data_fd answered 0 where PRE_COPY has no more for now: by the uAPI that is ENOMSG, and 0 is the end';
    warningChannel.publish({ device: this.#parts.device, atNs: realClock.nowNs(), what });
  }

  #requireOpen(operation: string): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the data_fd is closed', { operation, device: this.#parts.device });
    this.#parts.requireOpen(operation);
  }

  #alone<T>(operation: string, call: () => Call<T>): Call<T> {
    if (this.#busy) throw new VfioError('VFIO_E_BUSY', 'one read or write of a data_fd at a time', { operation, device: this.#parts.device });
    this.#busy = true;
    // Before the answer is delivered: whoever gets it may make the next call at once.
    const idle = (): void => this.#idle();
    return ownedCall(() => defer(call).pipe(tap({ next: idle, error: idle })));
  }

  #idle(): void {
    this.#busy = false;
    if (this.#closed) this.#closeFd();
  }

  #closeFd(): void {
    try {
      this.#parts.calls.close(this.#parts.fd, this.#parts.device);
    } finally {
      this.#parts.closed();
    }
  }
}
