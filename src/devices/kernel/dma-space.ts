import type { AsyncSubject } from 'rxjs';
import type { LaneRequest, LaneResult } from '../linux/lane-request.js';
import type { Call, DmaLimits, IovaRange } from '../port.js';
import type { IovaTable } from '../protocol/dma-ranges.js';

/** A range that is in the IOMMU, or on its way. */
export interface DmaEntry extends IovaRange {
  /** Whose it is. */
  readonly owner: object;
  /** Where its memory begins in this process. */
  readonly vaddr: bigint;
  /** Completes when the kernel has answered the map: before that it cannot be asked to unmap. */
  readonly settled: AsyncSubject<never>;
}

/** The device for which a space is asked, and the lane on which its calls are made. */
export interface DmaCaller {
  readonly device: string;
  readonly submit: (request: LaneRequest) => Call<LaneResult>;
}

/**
 * The IO addresses that devices of this process share: a container, or an IOAS of an iommufd. It says how the kernel is asked; what is asked, and when, is
 * the affair of `KernelDma`.
 */
export interface DmaSpace {
  /** Every range that any device of this process has mapped here. */
  readonly iovas: IovaTable<DmaEntry>;
  /** What errors call its calls. */
  readonly operations: { readonly limits: string; readonly map: string; readonly unmap: string };
  /** undefined, or why areas of devices cannot be mapped here, for others to reach. */
  readonly noAreas: string | undefined;
  limits(caller: DmaCaller): Call<DmaLimits>;
  map(range: IovaRange & { readonly vaddr: bigint; readonly read: boolean; readonly write: boolean }, caller: DmaCaller): Call<unknown>;
  /** Emits how many bytes went. */
  unmap(range: IovaRange, caller: DmaCaller): Call<number>;
}
