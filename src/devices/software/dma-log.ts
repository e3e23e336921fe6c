import type { IovaRange } from '../port.js';
import { bitmapBytes } from '../protocol/dirty-pages.js';
import type { Errno } from './errno.js';

/** The least page that a log tracks or a report is made in, bytes. */
const pieceBytes = 4096n;

/** A device's own log of what it wrote by DMA, from the driver's side; one at a time. */
export class DmaLog {
  readonly #leastPage: number;
  #ranges: readonly IovaRange[] | undefined;
  #page = 0;
  /** Numbers of 4 KiB that were written, all those of a tracked page together, and not reported. */
  #dirty = new Set<bigint>();

  /** @param leastPage the smallest page that it tracks, bytes */
  constructor(leastPage: number) {
    this.#leastPage = leastPage;
  }

  get ranges(): readonly IovaRange[] {
    return this.#ranges ?? [];
  }

  /** The page size that is tracked: as was asked for, or the least. */
  start(ranges: readonly IovaRange[], pageSize: number): number | Errno {
    if (this.#ranges !== undefined) return 'EBUSY';
    this.#ranges = ranges;
    this.#page = Math.max(pageSize, this.#leastPage);
    return this.#page;
  }

  stop(): void {
    this.#ranges = undefined;
    this.#dirty.clear();
  }

  /** One bit a page of `pageSize`; what was reported is clean again. */
  report(range: IovaRange, pageSize: number): Uint8Array | Errno {
    if (this.#ranges?.some(({ iova, size }) => iova <= range.iova && range.iova + BigInt(range.size) <= iova + BigInt(size)) !== true) return 'EINVAL';
    const bits = new Uint8Array(bitmapBytes(range.size, pageSize));
    for (const piece of [...this.#dirty]) {
      const at = piece * pieceBytes - range.iova;
      if (at < 0n || at >= BigInt(range.size)) continue;
      this.#dirty.delete(piece);
      const bit = Number(at / BigInt(pageSize));
      bits[bit >> 3] = (bits[bit >> 3] ?? 0) | (1 << bit % 8);
    }
    return bits;
  }

  /** The device wrote there. */
  wrote(iova: bigint, bytes: number): void {
    const end = iova + BigInt(bytes);
    if (bytes === 0 || this.#ranges?.some((range) => iova < range.iova + BigInt(range.size) && range.iova < end) !== true) return;
    const page = BigInt(this.#page);
    const last = (end + page - 1n) / page * page;
    for (let at = iova / page * page; at < last; at += pieceBytes) this.#dirty.add(at / pieceBytes);
  }
}
