import { AsyncSubject, catchError, concat, concatMap, defer, EMPTY, map, of, reduce, tap, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { nowCall, ownedCall } from '../call.js';
import { mapAnonymous, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Area, Call, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, Mapping } from '../port.js';
import { dmaMapError, printRange, requirePlace, requireRange, wholeRanges, type IovaTable } from '../protocol/dma-ranges.js';
import { protocolError } from '../uapi/bytes.js';
import type { DmaCaller, DmaEntry, DmaSpace } from './dma-space.js';

/** What a port's DMA needs of it. Its calls are made on the port's DMA lane; closing the port waits for them. */
export interface DmaParts extends DmaCaller {
  readonly space: DmaSpace;
  readonly calls: Syscalls;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
  /** All of the area is mapped there. */
  readonly shows: (mapping: Mapping, area: Area) => boolean;
}

/**
 * The DMA of one device: its memory, and its ranges in the IOMMU.
 *
 * A range is in the table from before the kernel is asked until after it has gone: what overlaps it is refused meanwhile, and
 * so is the unmapping of its memory. The kernel would allow that: the IOMMU then goes on to show pages that are somebody
 * else's by now.
 */
export class KernelDma {
  readonly #parts: DmaParts;
  readonly #memories = new Map<DmaMemory, MappedMemory>();
  /** Memory that somebody else keeps mapped until it is freed. */
  readonly #adopted = new Map<DmaMemory, Pick<MappedMemory, 'address' | 'size'>>();

  constructor(parts: DmaParts) {
    this.#parts = parts;
  }

  allocate(bytes: number): DmaMemory {
    const { calls, device } = this.#parts;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % calls.binding.pageSize !== 0) {
      throw new VfioError('VFIO_E_RANGE', `${bytes} bytes are not whole pages of ${calls.binding.pageSize} bytes`, { operation: 'allocate DMA memory', device });
    }
    const mapped = mapAnonymous(bytes, calls);
    const memory: DmaMemory = { memory: mapped.memory, size: mapped.size, free: () => nowCall(() => this.#free(memory)) };
    this.#memories.set(memory, mapped);
    return memory;
  }

  adopt(memory: ArrayBufferLike): DmaMemory {
    const { calls, device } = this.#parts;
    const size = memory.byteLength;
    const address = BigInt(calls.binding.addressOf(new Uint8Array(memory)));
    const page = calls.binding.pageSize;
    if (size === 0 || size % page !== 0 || address % BigInt(page) !== 0n) {
      throw new VfioError('VFIO_E_RANGE', `${size} bytes at 0x${address.toString(16)} are not whole pages of ${page} bytes`, { operation: 'import DMA memory', device });
    }
    const free = (): void => {
      if (!this.#adopted.has(adopted)) return;
      this.#requireOut(address, size, 'free DMA memory');
      this.#adopted.delete(adopted);
    };
    const adopted: DmaMemory = { memory, size, free: () => nowCall(free) };
    this.#adopted.set(adopted, { address, size });
    return adopted;
  }

  map(request: DmaMapRequest): Call<IovaRange> {
    return ownedCall(() => defer(() => this.#map(request)));
  }

  unmap(range: IovaRange): Call<number> {
    const origin = { operation: this.#parts.space.operations.unmap, device: this.#parts.device };
    return ownedCall(() =>
      defer(() => {
        this.#parts.requireOpen(origin.operation);
        requireRange(range, this.#parts.calls.binding.pageSize, origin);
        const going = wholeRanges(this.#iovas, range, (entry) => entry.owner === this, origin);
        return concat(...going.map((entry) => this.#takeOut(entry))).pipe(reduce((sum, bytes) => sum + bytes, 0));
      }),
    );
  }

  limits(): Call<DmaLimits> {
    return defer(() => {
      this.#parts.requireOpen(this.#parts.space.operations.limits);
      return this.#parts.space.limits(this.#parts);
    });
  }

  /** Throws VFIO_E_BUSY while any of the area is in the IOMMU. */
  requireOut(mapping: Mapping, area: Area): void {
    const start = (mapping.address ?? 0n) + BigInt(area.offset - mapping.area.offset);
    this.#requireOut(start, area.size, `munmap region ${mapping.region}`);
  }

  /** All ranges of this device leave, for a port that is closing; each is told. One by one: what waited in the lane behind a stuck one would be withdrawn. */
  leave(told: (what: string, error?: unknown) => void): void {
    const each = this.#mine().map((entry) => {
      const what = `${printRange(entry)} left the IOMMU`;
      return this.#takeOut(entry).pipe(
        tap({ complete: () => told(what) }),
        catchError((error: unknown) => {
          told(what, error);
          return EMPTY;
        }),
      );
    });
    concat(...each).subscribe();
  }

  /** One `step` for each memory that is left. */
  freeAll(step: (what: string, release: () => void) => void): void {
    for (const memory of [...this.#memories.keys()]) step(`DMA memory of ${memory.size} bytes freed`, () => this.#free(memory));
  }

  get #iovas(): IovaTable<DmaEntry> {
    return this.#parts.space.iovas;
  }

  #mine(): readonly DmaEntry[] {
    return this.#iovas.ranges.filter((entry) => entry.owner === this);
  }

  #map(request: DmaMapRequest): Call<IovaRange> {
    const { device, calls, space } = this.#parts;
    const origin = { operation: space.operations.map, device };
    const { iova, size, read, write } = request;
    this.#parts.requireOpen(origin.operation);
    requireRange(request, calls.binding.pageSize, origin);
    const entry: DmaEntry = { iova, size, owner: this, vaddr: this.#addressOf(request), settled: new AsyncSubject() };
    this.#iovas.add(entry, origin);
    return this.limits().pipe(
      concatMap((limits) => {
        // Asked anew each time: another group in the container may have narrowed it.
        requirePlace(request, limits, origin);
        this.#parts.requireOpen(origin.operation);
        return space.map({ iova, size, read, write, vaddr: entry.vaddr }, this.#parts);
      }),
      map(() => ({ iova, size })),
      catchError((error: unknown) => {
        this.#iovas.remove(entry);
        throw VfioError.is(error) && error.errno !== undefined && error.operation === origin.operation ? dmaMapError(error.errno, origin, error) : error;
      }),
      // Before the answer is delivered: whoever gets it may ask for the unmap at once.
      tap({ next: () => entry.settled.complete(), error: () => entry.settled.complete() }),
    );
  }

  #takeOut(entry: DmaEntry): Observable<number> {
    const { device, space } = this.#parts;
    const { unmap: operation } = space.operations;
    const inside = (): boolean => this.#iovas.overlapping(entry).includes(entry);
    const out = defer(() => {
      if (!inside()) return of(0);
      return space.unmap(entry, this.#parts).pipe(
        map((gone) => {
          // Two may have asked for it: the first has taken it.
          if (gone !== entry.size && inside()) throw protocolError({ operation, device }, 16, `${gone} of ${entry.size} bytes went`);
          this.#iovas.remove(entry);
          return gone;
        }),
      );
    });
    return concat(entry.settled, out);
  }

  /** Where the range begins in this process. Throws VFIO_E_RANGE where the source does not have all of it. */
  #addressOf({ source, offset = 0, size, read, write }: DmaMapRequest): bigint {
    const { device, space } = this.#parts;
    const refuse = (why: string): never => {
      throw new VfioError('VFIO_E_RANGE', why, { operation: space.operations.map, device });
    };
    const page = this.#parts.calls.binding.pageSize;
    if (!read && !write) refuse('devices may neither read nor write it: at least one');
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % page !== 0) refuse(`offset ${offset} is not a multiple of ${page}`);
    if ('region' in source) {
      if (space.noAreas !== undefined) throw new VfioError('VFIO_E_UNSUPPORTED', space.noAreas, { operation: space.operations.map, device });
      if (!this.#parts.shows(source, { offset: source.area.offset + offset, size })) refuse(`${size} bytes at ${offset} are not mapped (any more) there`);
      return (source.address ?? 0n) + BigInt(offset);
    }
    const memory = this.#memories.get(source) ?? this.#adopted.get(source);
    if (memory === undefined) return refuse('the memory is freed, or not of this device: allocate it by allocateDma()');
    if (offset + size > memory.size) refuse(`${size} bytes at ${offset}: the memory has ${memory.size} bytes`);
    return memory.address + BigInt(offset);
  }

  #free(memory: DmaMemory): void {
    const mapped = this.#memories.get(memory);
    if (mapped === undefined) return;
    this.#requireOut(mapped.address, mapped.size, 'free DMA memory');
    mapped.revoke();
    this.#memories.delete(memory);
    giveBackWhenUnseen(mapped, this.#parts.calls);
  }

  #requireOut(start: bigint, size: number, operation: string): void {
    const end = start + BigInt(size);
    const entry = this.#mine().find(({ vaddr, size: bytes }) => vaddr < end && start < vaddr + BigInt(bytes));
    if (entry !== undefined) throw new VfioError('VFIO_E_BUSY', `${printRange(entry)} shows it to devices: unmap that first`, { operation, device: this.#parts.device });
  }
}

const unseen = new FinalizationRegistry((unmap: () => void) => unmap());

/** The pages are gone; their address space goes when no view can be used any more. */
export function giveBackWhenUnseen({ memory, address, size }: MappedMemory, calls: Syscalls): void {
  unseen.register(memory, () => calls.munmap(Number(address), size));
}
