import { defer } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { nowCall } from '../call.js';
import type { Area, Call, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, Mapping } from '../port.js';
import { dmaMapError, IovaTable, printRange, requirePlace, requireRange, wholeRanges } from '../protocol/dma-ranges.js';
import type { DmaLog } from './dma-log.js';
import type { Errno } from './errno.js';
import { lateCall } from './late-call.js';
import { pageSize } from './options.js';
import type { Timers } from './timers.js';

/** Like an IOMMU of 39 bits with the hole that x86 keeps for interrupts. */
const iovaRanges = [{ start: 0n, end: 0xfedf_ffffn }, { start: 0xfef0_0000n, end: 2n ** 39n - 1n }] as const;
const entryLimit = 65_535;

/** One range of the IOMMU. `region` and `area`: where it shows a device's area, and not memory. */
export interface SoftwareDmaRange extends IovaRange {
  readonly read: boolean;
  readonly write: boolean;
  readonly region?: number;
  readonly area?: Area;
}

/** The IOMMU of a software device, as a test sees it, and the device's own way through it. */
export interface SoftwareIommu {
  readonly ranges: readonly SoftwareDmaRange[];
  /** What the device reads there; undefined where the IOMMU does not let it. */
  read(iova: bigint, bytes: number): Uint8Array | undefined;
  /** False where the IOMMU does not let it. */
  write(iova: bigint, bytes: Uint8Array): boolean;
  /** What is logged of that: no ranges where nothing is. */
  readonly log: { readonly ranges: readonly IovaRange[] } | undefined;
}

interface Entry extends SoftwareDmaRange {
  readonly source: DmaMemory | Mapping;
  readonly offset: number;
}

/** What stands in it goes on to show the memory that it was given, whatever becomes of that: as with a real one. */
export class Iommu implements SoftwareIommu {
  readonly #table = new IovaTable<Entry>();
  /** What the device writes, where it keeps a log of that. */
  readonly log: DmaLog | undefined;

  constructor(log: DmaLog | undefined) {
    this.log = log;
  }

  get ranges(): readonly SoftwareDmaRange[] {
    return this.#table.ranges.map(({ iova, size, read, write, region, area }) => ({
      iova, size, read, write, ...(region === undefined || area === undefined ? {} : { region, area }),
    }));
  }

  get limits(): DmaLimits {
    return { pageSizes: BigInt(pageSize), iovaRanges, available: entryLimit - this.#table.ranges.length, dirtyPages: undefined };
  }

  enter(entry: Entry): void {
    this.#table.add(entry, { operation: 'VFIO_IOMMU_MAP_DMA' });
  }

  leave(entry: Entry): void {
    this.#table.remove(entry);
  }

  overlapping(range: IovaRange): readonly IovaRange[] {
    return this.#table.overlapping(range);
  }

  /** Some of the mapping's area is in here. */
  shows(mapping: Mapping, area: Area): boolean {
    const start = area.offset - mapping.area.offset;
    return this.#table.ranges.some(({ source, offset, size }) => source === mapping && offset < start + area.size && start < offset + size);
  }

  read(iova: bigint, bytes: number): Uint8Array | undefined {
    return this.#at(iova, bytes, 'read')?.slice();
  }

  write(iova: bigint, bytes: Uint8Array): boolean {
    const there = this.#at(iova, bytes.length, 'write');
    if (there === undefined) return false;
    there.set(bytes);
    this.log?.wrote(iova, bytes.length);
    return true;
  }

  #at(iova: bigint, bytes: number, way: 'read' | 'write'): Uint8Array | undefined {
    const [entry] = this.#table.overlapping({ iova, size: bytes });
    if (entry === undefined || !entry[way] || iova < entry.iova || iova + BigInt(bytes) > entry.iova + BigInt(entry.size)) return undefined;
    return new Uint8Array(entry.source.memory, entry.offset + Number(iova - entry.iova), bytes);
  }
}

/** What the port's DMA needs of it. */
export interface DmaParts {
  readonly device: string;
  readonly iommu: Iommu;
  readonly timers: Timers;
  readonly requireOpen: (operation: string) => void;
  readonly shows: (mapping: Mapping, area: Area) => boolean;
  /** A failure that the driver's script has put there. */
  readonly fails: (call: 'dma map' | 'dma unmap') => Errno | undefined;
}

/** The DMA of one software device. Each has an IOMMU, and so IO addresses, of its own. */
export class SoftwareDma {
  readonly #parts: DmaParts;
  /** From before the IOMMU is asked until after it has answered: what overlaps is refused meanwhile. */
  readonly #claimed = new IovaTable<Entry>();
  readonly #memories = new Set<DmaMemory>();

  constructor(parts: DmaParts) {
    this.#parts = parts;
  }

  allocate(bytes: number): DmaMemory {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % pageSize !== 0) throw this.#error('VFIO_E_RANGE', `${bytes} bytes are not whole pages of ${pageSize} bytes`, 'allocate DMA memory');
    return this.adopt(new SharedArrayBuffer(bytes));
  }

  adopt(bytes: ArrayBufferLike): DmaMemory {
    const memory: DmaMemory = {
      memory: bytes,
      size: bytes.byteLength,
      free: () => nowCall(() => {
        if (this.#claimed.ranges.some(({ source }) => source === memory)) throw this.#error('VFIO_E_BUSY', 'it is in the IOMMU: unmap that first', 'free DMA memory');
        this.#memories.delete(memory);
      }),
    };
    this.#memories.add(memory);
    return memory;
  }

  map(request: DmaMapRequest): Call<IovaRange> {
    const operation = 'VFIO_IOMMU_MAP_DMA';
    const origin = { operation, device: this.#parts.device };
    return defer(() => {
      this.#parts.requireOpen(operation);
      requireRange(request, pageSize, origin);
      const entry = this.#entryOf(request, operation);
      this.#claimed.add(entry, origin);
      return lateCall(this.#parts.timers, () => {
        try {
          this.#parts.requireOpen(operation);
          requirePlace(request, this.#parts.iommu.limits, origin);
          const errno = this.#parts.fails('dma map');
          if (errno !== undefined) throw dmaMapError(errno, origin);
          this.#parts.iommu.enter(entry);
        } catch (error) {
          this.#claimed.remove(entry);
          throw error;
        }
        return { iova: entry.iova, size: entry.size };
      });
    });
  }

  unmap(range: IovaRange): Call<number> {
    const operation = 'VFIO_IOMMU_UNMAP_DMA';
    const origin = { operation, device: this.#parts.device };
    return defer(() => {
      this.#parts.requireOpen(operation);
      requireRange(range, pageSize, origin);
      const going = wholeRanges(this.#claimed, range, () => true, origin);
      return lateCall(this.#parts.timers, () => going.reduce((sum, entry) => sum + this.#takeOut(entry), 0));
    });
  }

  limits(): Call<DmaLimits> {
    return lateCall(this.#parts.timers, () => {
      this.#parts.requireOpen('VFIO_IOMMU_GET_INFO');
      return this.#parts.iommu.limits;
    });
  }

  /** Throws VFIO_E_BUSY while any of the area is in the IOMMU. */
  requireOut(mapping: Mapping, area: Area): void {
    const start = area.offset - mapping.area.offset;
    const entry = this.#claimed.ranges.find(({ source, offset, size }) => source === mapping && offset < start + area.size && start < offset + size);
    if (entry !== undefined) throw this.#error('VFIO_E_BUSY', `${printRange(entry)} shows it to devices: unmap that first`, `munmap region ${mapping.region}`);
  }

  /** All ranges leave, for a port that is closing; each is told. */
  leave(told: (what: string, error?: unknown) => void): void {
    for (const entry of [...this.#claimed.ranges]) {
      const what = `${printRange(entry)} left the IOMMU`;
      try {
        this.#takeOut(entry);
        told(what);
      } catch (error) {
        told(what, error);
      }
    }
    this.#memories.clear();
  }

  /** How many bytes went: none where another call has taken it. */
  #takeOut(entry: Entry): number {
    if (!this.#claimed.overlapping(entry).includes(entry)) return 0;
    const errno = this.#parts.fails('dma unmap');
    if (errno !== undefined) throw errnoError(errno, 'VFIO_IOMMU_UNMAP_DMA', this.#parts.device);
    this.#parts.iommu.leave(entry);
    this.#claimed.remove(entry);
    return entry.size;
  }

  #entryOf({ iova, size, source, offset = 0, read, write }: DmaMapRequest, operation: string): Entry {
    const refuse = (why: string): VfioError => this.#error('VFIO_E_RANGE', why, operation);
    if (!read && !write) throw refuse('devices may neither read nor write it: at least one');
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % pageSize !== 0) throw refuse(`offset ${offset} is not a multiple of ${pageSize}`);
    const entry = { iova, size, source, offset, read, write };
    if ('region' in source) {
      const area = { offset: source.area.offset + offset, size };
      if (!this.#parts.shows(source, area)) throw refuse(`${size} bytes at ${offset} are not mapped (any more) there`);
      return { ...entry, region: source.region, area };
    }
    if (!this.#memories.has(source)) throw refuse('the memory is freed, or not of this device: allocate it by allocateDma()');
    if (offset + size > source.size) throw refuse(`${size} bytes at ${offset}: the memory has ${source.size} bytes`);
    return entry;
  }

  #error(code: 'VFIO_E_RANGE' | 'VFIO_E_BUSY', why: string, operation: string): VfioError {
    return new VfioError(code, why, { operation, device: this.#parts.device });
  }
}
