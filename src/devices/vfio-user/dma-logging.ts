import { catchError, map } from 'rxjs';
import { VfioError } from '../../errors.js';
import type { Call, DmaLogging, DmaLoggingRequest, IovaRange } from '../port.js';
import { bitmapBytes, reportParts, requireLog, requireReport } from '../protocol/dirty-pages.js';
import { steps } from '../steps.js';
import { protocolError } from '../uapi/bytes.js';
import { VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP } from '../uapi/constants.js';
import { encodeFeature } from '../uapi/device-feature.js';
import type { Reply } from './connection.js';
import { encodeLoggingReport, encodeLoggingStart, readLoggedBits, readLoggedPage } from './messages/feature.js';
import { Serial } from './serial.js';

/** What the log needs of its port. */
export interface UserLoggingParts {
  readonly device: string;
  readonly feature: (operation: string, payload: Uint8Array) => Call<Reply>;
  /** The largest count that the server takes, bytes. */
  readonly maxDataBytes: () => number;
  readonly requireOpen: (operation: string) => void;
}

const start = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START';
const report = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT';
const stop = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP';

/** errnos with which servers say that they keep no log. */
const absent: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOTTY', 'EOPNOTSUPP', 'ENOSYS']);

/** The server's log of written pages: the kernel's feature, with ranges and bits in the messages themselves. */
export class UserDmaLogging implements DmaLogging {
  readonly #parts: UserLoggingParts;
  readonly #serial = new Serial();
  #started = false;

  constructor(parts: UserLoggingParts) {
    this.#parts = parts;
  }

  start(request: DmaLoggingRequest): Call<number> {
    const origin = { operation: start, device: this.#parts.device };
    return this.#serial.run(() => {
      this.#parts.requireOpen(start);
      requireLog(request.ranges, request.pageSize, origin);
      if (this.#started) throw new VfioError('VFIO_E_BUSY', 'the device keeps a log already: stop that first', { ...origin, errno: 'EBUSY' });
      return this.#feature(start, encodeLoggingStart(request)).pipe(
        map(({ payload }) => {
          this.#started = true;
          const tracked = readLoggedPage(payload);
          if (tracked === 0) throw protocolError(origin, 8, 'the device tracks pages of 0 bytes');
          return tracked;
        }),
      );
    });
  }

  report(part: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    const origin = { operation: report, device: this.#parts.device };
    return this.#serial.run(() => {
      this.#parts.requireOpen(report);
      requireReport(part, part.pageSize, origin);
      if (!this.#started) throw new VfioError('VFIO_E_UNSUPPORTED', 'the device keeps no log: start one', origin);
      const { pageSize } = part;
      const parts = reportParts(part, pageSize, this.#parts.maxDataBytes());
      const ask = (one: IovaRange): Call<Uint8Array> => this.#report({ ...one, pageSize });
      return steps(function* () {
        const bits = new Uint8Array(bitmapBytes(part.size, pageSize));
        for (const one of parts) bits.set((yield ask(one)) as Uint8Array, Number(one.iova - part.iova) / pageSize / 8);
        return bits;
      });
    });
  }

  stop(): Call<void> {
    return this.#serial.run(() => {
      this.#parts.requireOpen(stop);
      this.#started = false;
      return this.#feature(stop, encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 'set')).pipe(map(() => undefined));
    });
  }

  #report(part: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    const bytes = bitmapBytes(part.size, part.pageSize);
    return this.#feature(report, encodeLoggingReport(part, undefined, bytes)).pipe(map(({ payload }) => readLoggedBits(payload, bytes)));
  }

  #feature(operation: string, payload: Uint8Array): Call<Reply> {
    return this.#parts.feature(operation, payload).pipe(
      catchError((error: unknown) => {
        if (!VfioError.is(error) || !absent.has(error.errno)) throw error;
        throw new VfioError('VFIO_E_UNSUPPORTED', 'the server keeps no such log', { operation, device: this.#parts.device, errno: error.errno, cause: error });
      }),
    );
  }
}
