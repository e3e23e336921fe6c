import { defer, finalize, map, of, tap } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { nowCall, ownedCall } from '../call.js';
import type { Call, Chunk, DataChannel, PrecopyInfo } from '../port.js';
import { steps } from '../steps.js';
import { notPreCopying, precopyOperation } from '../uapi/precopy-info.js';
import type { UserConnection } from './connection.js';
import type { Sink } from './messages/decoder.js';
import { encodeMigData, migDataLayout, readMigData } from './messages/feature.js';

/** What a session needs of its port. */
export interface UserChannelParts {
  readonly direction: 'save' | 'resume';
  readonly device: string;
  readonly request: UserConnection['request'];
  readonly maxDataBytes: () => number;
  readonly requireOpen: (operation: string) => void;
  /** True where no bytes are the end for good: in STOP_COPY. */
  readonly final: () => boolean;
}

/** The server's one session, in the place of a data_fd: MIG_DATA_READ and MIG_DATA_WRITE, one at a time. */
export class UserDataChannel implements DataChannel {
  readonly direction: 'save' | 'resume';
  readonly #parts: UserChannelParts;
  #busy = false;
  #closed = false;
  #over = false;

  constructor(parts: UserChannelParts) {
    this.direction = parts.direction;
    this.#parts = parts;
  }

  /** The device has left the states of this session. */
  end(): void {
    this.#over = true;
  }

  read(maxBytes: number, into?: Uint8Array): Call<Chunk> {
    if (into === undefined) return this.#read(maxBytes);
    return defer(() => {
      const sink: Sink = { prefix: migDataLayout.sizeof, into };
      return this.#read(maxBytes, sink).pipe(finalize(() => (sink.into = undefined)));
    });
  }

  write(bytes: Uint8Array): Call<void> {
    const operation = 'MIG_DATA_WRITE';
    return this.#alone(operation, 'resume', () => {
      if (bytes.length === 0) return of(undefined);
      const { maxDataBytes, request } = this.#parts;
      const most = maxDataBytes();
      return steps(function* () {
        // The bytes are the caller's once a part is on its way.
        const whole = bytes.length > most ? new Uint8Array(bytes) : bytes;
        for (let at = 0; at < whole.length; at += most) {
          const part = whole.subarray(at, at + most);
          yield request('MIG_DATA_WRITE', operation, encodeMigData(part.length, part));
        }
      });
    });
  }

  /** The protocol has no message for it: VFIO_E_UNSUPPORTED where the kernel would have an answer. */
  precopy(): Call<PrecopyInfo> {
    return defer(() => {
      this.#require(precopyOperation);
      if (this.direction === 'resume' || this.#parts.final()) throw notPreCopying(this.#origin(precopyOperation));
      throw new VfioError('VFIO_E_UNSUPPORTED', 'vfio-user has no message that asks what there is to read', this.#origin(precopyOperation));
    });
  }

  close(): Call<void> {
    return nowCall(() => {
      this.#closed = true;
    });
  }

  #read(maxBytes: number, sink?: Sink): Call<Chunk> {
    const operation = 'MIG_DATA_READ';
    return this.#alone(operation, 'save', () => {
      if (!Number.isSafeInteger(maxBytes) || maxBytes <= 0) throw new VfioError('VFIO_E_RANGE', `cannot read ${maxBytes} bytes: ask for at least 1`, this.#origin(operation));
      // Asked before, not after: a state that changes meanwhile must not turn "no more for now" into the end.
      const final = this.#parts.final();
      return this.#parts.request('MIG_DATA_READ', operation, encodeMigData(Math.min(maxBytes, this.#parts.maxDataBytes())), undefined, sink).pipe(
        map(({ payload, data }): Chunk => {
          const bytes = readMigData(payload, data);
          if (bytes.length > maxBytes) throw new VfioError('VFIO_E_PROTOCOL', `${bytes.length} bytes came, ${maxBytes} were asked for`, this.#origin(operation));
          return bytes.length > 0 ? { kind: 'bytes', bytes } : { kind: final ? 'end' : 'quiet' };
        }),
      );
    });
  }

  #alone<T>(operation: string, direction: 'save' | 'resume', call: () => Call<T>): Call<T> {
    return defer(() => {
      this.#require(operation);
      if (this.direction !== direction) throw errnoError('EBADF', operation, this.#parts.device);
      if (this.#busy) throw new VfioError('VFIO_E_BUSY', 'one read or write of a session at a time', this.#origin(operation));
      this.#busy = true;
      // Before the answer is delivered: whoever gets it may make the next call at once.
      const idle = (): void => {
        this.#busy = false;
      };
      return ownedCall(() => defer(call).pipe(tap({ next: idle, error: idle })));
    });
  }

  #require(operation: string): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the session is closed', this.#origin(operation));
    this.#parts.requireOpen(operation);
    if (this.#over) throw errnoError('ENODEV', operation, this.#parts.device);
  }

  #origin(operation: string): { readonly operation: string; readonly device: string } {
    return { operation, device: this.#parts.device };
  }
}
