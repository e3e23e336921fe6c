import { defer } from 'rxjs';
import { errnoError } from '../../errors.js';
import type { Call, DmaLogging, DmaLoggingRequest, IovaRange } from '../port.js';
import { requireLog, requireReport } from '../protocol/dirty-pages.js';
import type { DmaLog } from './dma-log.js';
import type { Errno } from './errno.js';
import { lateCall } from './late-call.js';
import type { Timers } from './timers.js';

/** What a port's DMA logging needs of it. */
export interface DmaLoggingParts {
  readonly device: string;
  /** undefined where the device keeps none. */
  readonly log: DmaLog | undefined;
  readonly timers: Timers;
  readonly requireOpen: (operation: string) => void;
  /** A failure that the driver's script has put there, or a device that is gone. */
  readonly fails: (call: LoggingCall) => Errno | undefined;
}

/** The three calls, as `faults.failDma` names them. */
export type LoggingCall = 'log start' | 'log report' | 'log stop';

/** VFIO_DEVICE_FEATURE_DMA_LOGGING_* of a software device. */
export class SoftwareDmaLogging implements DmaLogging {
  readonly #parts: DmaLoggingParts;

  constructor(parts: DmaLoggingParts) {
    this.#parts = parts;
  }

  start({ ranges, pageSize }: DmaLoggingRequest): Call<number> {
    const operation = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START';
    return this.#call(operation, 'log start', (log) => log.start(ranges, pageSize), () => { requireLog(ranges, pageSize, { operation, device: this.#parts.device }); });
  }

  report({ pageSize, ...range }: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    const operation = 'VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT';
    return this.#call(operation, 'log report', (log) => log.report(range, pageSize), () => { requireReport(range, pageSize, { operation, device: this.#parts.device }); });
  }

  stop(): Call<void> {
    return this.#call('VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP', 'log stop', (log) => { log.stop(); });
  }

  /** `check` throws at once what no driver is asked for. */
  #call<T>(operation: string, call: LoggingCall, body: (log: DmaLog) => T | Errno, check: () => void = () => undefined): Call<Exclude<T, Errno>> {
    const { device, log, timers, requireOpen, fails } = this.#parts;
    return defer(() => {
      requireOpen(operation);
      check();
      return lateCall(timers, () => {
        requireOpen(operation);
        const errno = fails(call) ?? (log === undefined ? 'ENOTTY' : undefined);
        const answer = errno ?? (log === undefined ? 'ENOTTY' : body(log));
        if (typeof answer === 'string') throw errnoError(answer, operation, device);
        return answer as Exclude<T, Errno>;
      });
    });
  }
}
