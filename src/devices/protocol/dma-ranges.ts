import { errnoError, VfioError, type VfioErrorCode } from '../../errors.js';
import type { Origin } from '../uapi/bytes.js';
import type { DmaLimits, IovaRange } from '../uapi/dma.js';

const endOf = (range: IovaRange): bigint => range.iova + BigInt(range.size);

/** One past the last address. */
const space = 2n ** 64n;

/** The ranges that are in the IOMMU, or on their way in or out: apart from one another, in order. */
export class IovaTable<R extends IovaRange> {
  readonly #ranges: R[] = [];

  get ranges(): readonly R[] {
    return this.#ranges;
  }

  /** The ranges that share an address with this one. */
  overlapping(range: IovaRange): readonly R[] {
    const from = this.#firstEndingAfter(range.iova);
    let to = from;
    while (to < this.#ranges.length && (this.#ranges[to] as R).iova < endOf(range)) to += 1;
    return this.#ranges.slice(from, to);
  }

  /** Throws VFIO_E_BUSY where it overlaps another. */
  add(range: R, origin: Origin): void {
    const [other] = this.overlapping(range);
    if (other !== undefined) throw new VfioError('VFIO_E_BUSY', `${printRange(range)} overlaps ${printRange(other)}, which is mapped already: all devices of this process share one IO address space`, origin);
    this.#ranges.splice(this.#firstEndingAfter(range.iova), 0, range);
  }

  remove(range: R): void {
    const at = this.#firstEndingAfter(range.iova);
    if (this.#ranges[at] === range) this.#ranges.splice(at, 1);
  }

  #firstEndingAfter(iova: bigint): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (endOf(this.#ranges[middle] as R) > iova) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** Throws VFIO_E_RANGE unless the range is whole pages inside the 64 bits of an address space. */
export function requireRange(range: IovaRange, pageSize: number, origin: Origin): void {
  const { iova, size } = range;
  const whole = Number.isSafeInteger(size) && size > 0 && size % pageSize === 0 && iova >= 0n && iova % BigInt(pageSize) === 0n;
  if (!whole) throw outOfRange(`${printRange(range)} is not made of whole pages of ${pageSize} bytes`, origin);
  if (endOf(range) > space) throw outOfRange(`${printRange(range)} leaves the 64 bits of an address`, origin);
}

/** Throws VFIO_E_RANGE where this IOMMU cannot map the range, and VFIO_E_LIMIT where it takes no further one. */
export function requirePlace(range: IovaRange, limits: DmaLimits, origin: Origin): void {
  const page = Number(limits.pageSizes & -limits.pageSizes);
  requireRange(range, page, origin);
  const { iovaRanges, available } = limits;
  const last = endOf(range) - 1n;
  if (iovaRanges?.some(({ start, end }) => start <= range.iova && last <= end) === false) {
    const allowed = iovaRanges.map(({ start, end }) => `0x${start.toString(16)} to 0x${end.toString(16)}`).join(', ');
    throw outOfRange(`${printRange(range)} is not inside the addresses of this IOMMU: ${allowed === '' ? 'none' : allowed}`, origin);
  }
  if (available === 0) throw new VfioError('VFIO_E_LIMIT', noEntry, origin);
}

const noEntry = 'the container takes no further DMA range: unmap some, map larger ones, or raise dma_entry_limit of vfio_iommu_type1';

/**
 * The ranges that an unmap of `range` takes. Throws VFIO_E_RANGE where it would cut one: type1v2 splits none, and where one
 * is not `mine`.
 */
export function wholeRanges<R extends IovaRange>(table: IovaTable<R>, range: IovaRange, mine: (range: R) => boolean, origin: Origin): readonly R[] {
  const going = table.overlapping(range);
  for (const one of going) {
    if (!mine(one)) throw outOfRange(`${printRange(one)} was mapped by another device of this process: it unmaps it`, origin);
    if (one.iova < range.iova || endOf(one) > endOf(range)) throw outOfRange(`${printRange(range)} would cut ${printRange(one)}: a range is unmapped whole`, origin);
  }
  return going;
}

/** What an errno of VFIO_IOMMU_MAP_DMA means. */
const meanings: Readonly<Record<string, readonly [VfioErrorCode, string]>> = {
  EEXIST: ['VFIO_E_BUSY', 'the range overlaps one that is mapped already'],
  ENOSPC: ['VFIO_E_LIMIT', noEntry],
  ENOMEM: ['VFIO_E_LIMIT', 'the pages cannot be locked: raise RLIMIT_MEMLOCK (ulimit -l), map less, or free memory'],
  EINVAL: ['VFIO_E_RANGE', 'the IOMMU does not take this range: compare it with dmaLimits()'],
  EFAULT: ['VFIO_E_UNSUPPORTED', "the IOMMU cannot reach this memory: an area that is its driver's own RAM, that cannot be accessed now, or that may not be written"],
};

/** The typed error for a failed VFIO_IOMMU_MAP_DMA. */
export function dmaMapError(errno: string, origin: Origin, cause?: unknown): VfioError {
  const meaning = meanings[errno];
  if (meaning === undefined) return errnoError(errno, origin.operation, origin.device, cause);
  return new VfioError(meaning[0], meaning[1], { ...origin, errno, cause });
}

export function printRange(range: IovaRange): string {
  return `iova 0x${range.iova.toString(16)}+0x${range.size.toString(16)}`;
}

function outOfRange(why: string, origin: Origin): VfioError {
  return new VfioError('VFIO_E_RANGE', why, origin);
}
