import { catchError, defer, map, tap, throwError } from 'rxjs';
import { VfioError } from '../../errors.js';
import { ownedCall } from '../call.js';
import type { Call, DmaLogging, DmaLoggingRequest, IovaRange } from '../port.js';
import { bitmapBytes, requireLog, requireReport } from '../protocol/dirty-pages.js';
import { IOMMU_HWPT_GET_DIRTY_BITMAP, IOMMU_HWPT_SET_DIRTY_TRACKING } from '../uapi/constants.js';
import { encodeDirtyBitmapQuery, encodeDirtyTracking } from '../uapi/hwpt.js';
import type { DmaLoggingParts } from './dma-logging.js';
import type { TrackingTable } from './opened-device.js';
import { pointing } from './pointing.js';

const set = 'IOMMU_HWPT_SET_DIRTY_TRACKING';
const get = 'IOMMU_HWPT_GET_DIRTY_BITMAP';

/**
 * Which pages one device wrote, as the IOMMU in front of it tracks them in the page table that only this device uses: of all that is mapped, in pages of any
 * size that is asked for. What is not mapped (any more) is clean.
 */
export class HwptLogging implements DmaLogging {
  readonly #parts: Omit<DmaLoggingParts, 'fd'>;
  readonly #table: TrackingTable;
  #started = false;

  constructor(table: TrackingTable, parts: Omit<DmaLoggingParts, 'fd'>) {
    this.#table = table;
    this.#parts = parts;
  }

  start({ ranges, pageSize }: DmaLoggingRequest): Call<number> {
    const origin = { operation: set, device: this.#parts.device };
    return ownedCall(() => defer(() => {
      this.#parts.requireOpen(set);
      requireLog(ranges, pageSize, origin);
      if (this.#started) throw new VfioError('VFIO_E_BUSY', 'the IOMMU keeps a log already: stop that first', { ...origin, errno: 'EBUSY' });
      this.#started = true;
      return this.#track(true).pipe(
        tap({ error: () => { this.#started = false; } }),
        map(() => pageSize),
      );
    }));
  }

  report({ pageSize, ...range }: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    return ownedCall(() => defer(() => {
      const { calls, device, requireOpen } = this.#parts;
      requireOpen(get);
      requireReport(range, pageSize, { operation: get, device });
      const bytes = bitmapBytes(range.size, pageSize);
      return pointing(bytes, calls, ({ address, memory }) =>
        this.#ioctl(IOMMU_HWPT_GET_DIRTY_BITMAP, encodeDirtyBitmapQuery(this.#table.hwpt, range, pageSize, address), get).pipe(map(() => new Uint8Array(memory, 0, bytes).slice())),
      );
    }));
  }

  stop(): Call<void> {
    return ownedCall(() => defer(() => {
      this.#parts.requireOpen(set);
      this.#started = false;
      return this.#track(false);
    }));
  }

  #track(on: boolean): Call<void> {
    return this.#ioctl(IOMMU_HWPT_SET_DIRTY_TRACKING, encodeDirtyTracking(this.#table.hwpt, on), set);
  }

  #ioctl(request: number, argument: Uint8Array, operation: string): Call<void> {
    const { device, submit } = this.#parts;
    return submit({ op: 'ioctl', fd: this.#table.iommufd, request, argument, operation, device }).pipe(map(() => undefined));
  }
}

/** The log of the device itself; where it keeps none, that of the IOMMU in front of it. */
export class EitherLogging implements DmaLogging {
  readonly #device: DmaLogging;
  readonly #iommu: DmaLogging;
  /** Which one was started last. */
  #kept: DmaLogging;

  constructor(device: DmaLogging, iommu: DmaLogging) {
    this.#device = device;
    this.#iommu = iommu;
    this.#kept = device;
  }

  start(request: DmaLoggingRequest): Call<number> {
    const start = (log: DmaLogging): Call<number> => log.start(request).pipe(tap(() => (this.#kept = log)));
    return start(this.#device).pipe(catchError((error: unknown) => (VfioError.is(error) && error.code === 'VFIO_E_UNSUPPORTED' ? start(this.#iommu) : throwError(() => error))));
  }

  report(part: IovaRange & { readonly pageSize: number }): Call<Uint8Array> {
    return defer(() => this.#kept.report(part));
  }

  stop(): Call<void> {
    return defer(() => this.#kept.stop());
  }
}
