import { VfioError } from '../../errors.js';
import type { Origin } from '../uapi/bytes.js';
import type { IovaRange } from '../uapi/dma.js';
import { maxLoggedRanges } from '../uapi/dma-logging.js';
import { printRange, requireRange } from './dma-ranges.js';

/** What a log of written pages is about: VFIO_DEVICE_FEATURE_DMA_LOGGING_*. */

/** Which pages a device wrote: bit n of the bytes, low bits first, is the page at `iova + n * pageSize`. */
export interface DirtyBitmap extends IovaRange {
  /** Bytes. */
  readonly pageSize: number;
  readonly bits: Uint8Array;
}

/** The least page of a report, bytes. */
const leastPage = 4096;

/** One bitmap takes at most so many bytes: 64 GiB in pages of 4 KiB. */
export const maxBitmapBytes = 2 * 1024 * 1024;

/** The kernel's bitmap is made of u64. */
const wordBits = 64;

/** Bytes of the bitmap of a range, whole u64s. */
export function bitmapBytes(size: number, pageSize: number): number {
  return Math.ceil(size / pageSize / wordBits) * 8;
}

/** Throws VFIO_E_RANGE unless a log may be started so: 1 to 256 ranges of whole pages, apart from one another. */
export function requireLog(ranges: readonly IovaRange[], pageSize: number, origin: Origin): void {
  requirePage(pageSize, origin);
  if (ranges.length === 0 || ranges.length > maxLoggedRanges) throw refused(`a log is about 1 to ${maxLoggedRanges} ranges, not ${ranges.length}`, origin);
  for (const range of ranges) requireRange(range, pageSize, origin);
  const sorted = [...ranges].sort((a, b) => (a.iova < b.iova ? -1 : 1));
  for (const [n, range] of sorted.entries()) {
    const before = sorted[n - 1];
    if (before !== undefined && before.iova + BigInt(before.size) > range.iova) throw refused(`${printRange(range)} overlaps ${printRange(before)}`, origin);
  }
}

/** Throws VFIO_E_RANGE unless one report can be about this range. */
export function requireReport(range: IovaRange, pageSize: number, origin: Origin): void {
  requirePage(pageSize, origin);
  requireRange(range, pageSize, origin);
  if (bitmapBytes(range.size, pageSize) > maxBitmapBytes) throw refused(`the bitmap of ${printRange(range)} is longer than ${maxBitmapBytes} bytes: ask for it in parts`, origin);
}

/** The same range in parts that one report can be about, whose bitmap has so many bytes at most (and whole u64s). */
export function reportParts({ iova, size }: IovaRange, pageSize: number, mostBytes = maxBitmapBytes): readonly IovaRange[] {
  const most = Math.max(1, Math.floor(mostBytes / 8)) * wordBits * pageSize;
  return Array.from({ length: Math.ceil(size / most) }, (_, n) => ({ iova: iova + BigInt(n * most), size: Math.min(most, size - n * most) }));
}

/** How many pages were written. Bits beyond the range count for nothing, whoever set them. */
export function countDirty(bitmap: DirtyBitmap): number {
  let pages = 0;
  for (const { size } of dirtyRanges(bitmap)) pages += size / bitmap.pageSize;
  return pages;
}

/**
 * What was written, as ranges in order: neighbours are one.
 *
 * @example
 * for (const { iova, size } of dirtyRanges(bitmap)) console.log(`0x${iova.toString(16)} ${size}`);
 */
export function* dirtyRanges({ iova, size, pageSize, bits }: DirtyBitmap): Generator<IovaRange> {
  const pages = Math.min(Math.ceil(size / pageSize), bits.length * 8);
  const range = (from: number, to: number): IovaRange => ({ iova: iova + BigInt(from * pageSize), size: (to - from) * pageSize });
  let from: number | undefined;
  for (let page = 0; page < pages; page += 1) {
    const byte = bits[page >> 3] ?? 0;
    if (page % 8 === 0 && from === undefined && byte === 0) {
      page += 7;
    } else if ((byte & (1 << page % 8)) !== 0) {
      from ??= page;
    } else if (from !== undefined) {
      yield range(from, page);
      from = undefined;
    }
  }
  if (from !== undefined) yield range(from, pages);
}

function requirePage(pageSize: number, origin: Origin): void {
  if (Number.isSafeInteger(pageSize) && pageSize >= leastPage && Number.isInteger(Math.log2(pageSize))) return;
  throw refused(`pages of ${pageSize} bytes: a power of two, ${leastPage} or more`, origin);
}

function refused(why: string, origin: Origin): VfioError {
  return new VfioError('VFIO_E_RANGE', why, origin);
}
