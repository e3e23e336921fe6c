import { catchError, concatMap, defer, map, of, tap, throwError } from 'rxjs';
import { VfioError } from '../../errors.js';
import { nowCall, ownedCall } from '../call.js';
import type { Lane } from '../linux/lanes.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, Chunk, DataChannel } from '../port.js';

/** What one read may ask for, bytes. */
const mostBytes = 16 * 1024 * 1024;

/** What a data channel needs of its port. */
export interface ChannelParts {
  readonly fd: number;
  readonly direction: 'save' | 'resume';
  readonly lane: Lane;
  readonly calls: Syscalls;
  readonly device: string;
  /** True where 0 bytes are the end for good: in STOP_COPY. */
  readonly final: () => boolean;
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

  constructor(parts: ChannelParts) {
    this.direction = parts.direction;
    this.#parts = parts;
  }

  read(maxBytes: number): Call<Chunk> {
    return this.#one('read data_fd', () => {
      if (!Number.isSafeInteger(maxBytes) || maxBytes <= 0 || maxBytes > mostBytes) {
        throw new VfioError('VFIO_E_RANGE', `between 1 and ${mostBytes} bytes a read, not ${maxBytes}`, { operation: 'read data_fd', device: this.#parts.device });
      }
      return this.#parts.lane.submit({ op: 'read', fd: this.#parts.fd, length: maxBytes, operation: 'read data_fd', device: this.#parts.device }).pipe(
        map(({ value, bytes }): Chunk => {
          if (value > 0) return { kind: 'bytes', bytes };
          return { kind: this.#parts.final() ? 'end' : 'quiet' };
        }),
        catchError((error: unknown) => (VfioError.is(error) && error.errno === 'ENOMSG' ? of<Chunk>({ kind: 'quiet' }) : throwError(() => error))),
      );
    });
  }

  write(bytes: Uint8Array): Call<void> {
    return this.#one('write data_fd', () => this.#writeAll(bytes));
  }

  close(): Call<void> {
    return nowCall(() => this.release());
  }

  release(): void {
    if (this.#closed) return;
    this.#closed = true;
    // While a thread is in a call on it the number must not go to another file.
    if (!this.#busy) this.#closeFd();
  }

  /** A driver may take less than it was given. */
  #writeAll(bytes: Uint8Array): Call<void> {
    return this.#parts.lane.submit({ op: 'write', fd: this.#parts.fd, bytes, operation: 'write data_fd', device: this.#parts.device }).pipe(
      concatMap(({ value }) => {
        if (value <= 0 || value > bytes.length) throw new VfioError('VFIO_E_PROTOCOL', `the driver took ${value} of ${bytes.length} bytes`, { operation: 'write data_fd', device: this.#parts.device });
        return value === bytes.length ? of(undefined) : this.#writeAll(bytes.subarray(value));
      }),
    );
  }

  #idle(): void {
    this.#busy = false;
    if (this.#closed) this.#closeFd();
  }

  #closeFd(): void {
    this.#parts.calls.close(this.#parts.fd, this.#parts.device);
    this.#parts.closed();
  }

  #one<T>(operation: string, call: () => Call<T>): Call<T> {
    return defer(() => {
      if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the data_fd is closed', { operation, device: this.#parts.device });
      if (this.#busy) throw new VfioError('VFIO_E_BUSY', 'one read or write of a data_fd at a time', { operation, device: this.#parts.device });
      this.#busy = true;
      // Before the answer is delivered: whoever gets it may make the next call at once.
      const idle = (): void => this.#idle();
      return ownedCall(() => call().pipe(tap({ next: idle, error: idle })));
    });
  }
}
