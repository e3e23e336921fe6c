import { defer, map, tap } from 'rxjs';
import { VfioError } from '../../errors.js';
import { ownedCall } from '../call.js';
import type { LaneRequest, LaneResult } from '../linux/lane-request.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, DmaLogging, DmaLoggingRequest, IovaRange } from '../port.js';
import { bitmapBytes, requireLog, requireReport } from '../protocol/dirty-pages.js';
import { protocolError } from '../uapi/bytes.js';
import { VFIO_DEVICE_FEATURE } from '../uapi/constants.js';
import { encodeLoggedRanges, encodeLoggingReport, encodeLoggingStart, encodeLoggingStop, readLoggingStart } from '../uapi/dma-logging.js';
import { pointing } from './pointing.js';

/** What a device's log of written pages needs of its port. */
export interface DmaLoggingParts {
  readonly device: string;
  readonly fd: number;
  readonly calls: Syscalls;
  /** Makes a call on the log's lane; closing the port waits for it. */
  readonly submit: (request: LaneRequest) => Call<LaneResult>;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
}

const start = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START';
const report = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT';
const stop = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP';

/** VFIO_DEVICE_FEATURE_DMA_LOGGING_*. */
export class KernelDmaLogging implements DmaLogging {
  readonly #parts: DmaLoggingParts;
  #started = false;

  constructor(parts: DmaLoggingParts) {
    this.#parts = parts;
  }

  start({ ranges, pageSize }: DmaLoggingRequest): Call<number> {
    const origin = { operation: start, device: this.#parts.device };
    return ownedCall(() => defer(() => {
      this.#parts.requireOpen(start);
      requireLog(ranges, pageSize, origin);
      if (this.#started) throw new VfioError('VFIO_E_BUSY', 'the device keeps a log already: stop that first', { ...origin, errno: 'EBUSY' });
      this.#started = true;
      const encoded = encodeLoggedRanges(ranges);
      return pointing(encoded.length, this.#parts.calls, (memory) => {
        new Uint8Array(memory.memory).set(encoded);
        return this.#feature(encodeLoggingStart(pageSize, ranges.length, memory.address), start);
      }).pipe(
        tap({ error: () => { this.#started = false; } }),
        map(({ bytes }) => {
          const tracked = readLoggingStart(bytes, this.#parts.device);
          if (tracked === 0n || tracked > BigInt(Number.MAX_SAFE_INTEGER)) throw protocolError(origin, 8, `the device tracks pages of ${tracked} bytes`);
          return Number(tracked);
        }),
      );
    }));
  }

  report({ pageSize, ...range }: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    return ownedCall(() => defer(() => {
      this.#parts.requireOpen(report);
      requireReport(range, pageSize, { operation: report, device: this.#parts.device });
      const bytes = bitmapBytes(range.size, pageSize);
      return pointing(bytes, this.#parts.calls, (memory) => this.#feature(encodeLoggingReport(range, pageSize, memory.address), report).pipe(map(() => new Uint8Array(memory.memory, 0, bytes).slice())));
    }));
  }

  stop(): Call<void> {
    return ownedCall(() => defer(() => {
      this.#parts.requireOpen(stop);
      // What is started from now on comes after it, on the same lane.
      this.#started = false;
      return this.#feature(encodeLoggingStop(), stop).pipe(map(() => undefined));
    }));
  }

  #feature(argument: Uint8Array, operation: string): Call<LaneResult> {
    const { fd, device } = this.#parts;
    return this.#parts.submit({ op: 'ioctl', fd, request: VFIO_DEVICE_FEATURE, argument, operation, device });
  }
}
