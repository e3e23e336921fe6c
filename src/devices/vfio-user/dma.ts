import { catchError, concat, concatMap, defer, EMPTY, map, of, reduce, tap, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { nowCall } from '../call.js';
import { giveBackWhenUnseen } from '../kernel/dma.js';
import { mapRegion, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Area, Call, DmaLimits, DmaMapRequest, DmaMemory, IovaRange, Mapping } from '../port.js';
import { dmaMapError, IovaTable, printRange, requirePlace, requireRange, wholeRanges } from '../protocol/dma-ranges.js';
import type { Answer, Reply } from './connection.js';
import { encodeDmaAccess, encodeDmaMap, encodeDmaUnmap, readDmaData, readDmaPart } from './messages/dma.js';
import type { CommandName } from './messages/header.js';
import type { Capabilities } from './messages/version.js';
import { Serial } from './serial.js';

/** What DMA needs of its port. */
export interface UserDmaParts {
  readonly device: string;
  readonly calls: Syscalls;
  readonly request: (command: CommandName, operation: string, payload: Uint8Array, fds?: readonly number[]) => Call<Reply>;
  readonly server: () => Capabilities;
  readonly requireOpen: (operation: string) => void;
  readonly shows: (mapping: Mapping, area: Area) => boolean;
  readonly fileOf: (mapping: Mapping) => { readonly fd: number; readonly offset: number } | undefined;
}

/** Where a range's memory is: in this process, and in a file for the server. */
interface Source {
  readonly bytes: Uint8Array;
  readonly fd: number;
  /** In the file. */
  readonly offset: number;
}

/** Without its file: a later layout of the region closes that fd, and brings another. */
interface Entry extends IovaRange, Pick<Source, 'bytes'> {
  readonly source: DmaMemory | Mapping;
  readonly read: boolean;
  readonly write: boolean;
}

/** errnos, as QEMU answers a server. */
const errno = { ENODEV: 19, EINVAL: 22 } as const;

const mapOperation = 'VFIO_IOMMU_MAP_DMA';
const unmapOperation = 'VFIO_IOMMU_UNMAP_DMA';

/**
 * Memory for the server's DMA: memfds of this process, which the server maps, or reads and writes by message. There is no IOMMU: a device
 * has IO addresses of its own, and no other device reaches them.
 */
export class UserDma {
  readonly #parts: UserDmaParts;
  /** From before the server is asked until after it has answered: what overlaps is refused meanwhile. */
  readonly #table = new IovaTable<Entry>();
  readonly #memories = new Map<DmaMemory, { readonly mapped: MappedMemory; readonly fd: number }>();
  readonly #serial = new Serial();

  constructor(parts: UserDmaParts) {
    this.#parts = parts;
  }

  allocate(bytes: number): DmaMemory {
    const { calls, device } = this.#parts;
    const page = calls.binding.pageSize;
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % page !== 0) {
      throw new VfioError('VFIO_E_RANGE', `${bytes} bytes are not whole pages of ${page} bytes`, { operation: 'allocate DMA memory', device });
    }
    const fd = calls.memfd('vfio-rx dma', bytes);
    let mapped: MappedMemory;
    try {
      mapped = mapRegion(fd, 0n, bytes, { read: true, write: true }, calls, device);
    } catch (error) {
      calls.binding.close(fd);
      throw error;
    }
    const memory: DmaMemory = { memory: mapped.memory, size: bytes, free: () => nowCall(() => this.#free(memory)) };
    this.#memories.set(memory, { mapped, fd });
    return memory;
  }

  map(request: DmaMapRequest): Call<IovaRange> {
    const origin = { operation: mapOperation, device: this.#parts.device };
    return defer(() => {
      this.#parts.requireOpen(mapOperation);
      requireRange(request, this.#parts.calls.binding.pageSize, origin);
      const asked = { ...request };
      const { iova, size, read, write, source } = asked;
      const entry: Entry = { iova, size, read, write, source, bytes: this.#sourceOf(asked).bytes };
      requirePlace(asked, this.#limits(), origin);
      this.#table.add(entry, origin);
      // Inside: it runs to its end also when nobody waits any more.
      const shown = defer(() => {
        this.#parts.requireOpen(mapOperation);
        const { fd, offset } = this.#sourceOf(asked);
        return this.#parts.request('DMA_MAP', mapOperation, encodeDmaMap({ iova, size, read, write, offset }), [fd]);
      }).pipe(
        catchError((error: unknown) => {
          this.#table.remove(entry);
          throw VfioError.is(error) && error.errno !== undefined ? dmaMapError(error.errno, origin, error) : error;
        }),
      );
      // Outside: too many wait, and it has no turn.
      return this.#serial.run(() => shown).pipe(map(() => ({ iova, size })), tap({ error: () => this.#table.remove(entry) }));
    });
  }

  unmap(range: IovaRange): Call<number> {
    const origin = { operation: unmapOperation, device: this.#parts.device };
    return defer(() => {
      this.#parts.requireOpen(unmapOperation);
      requireRange(range, this.#parts.calls.binding.pageSize, origin);
      const going = wholeRanges(this.#table, range, () => true, origin);
      return this.#serial.run(() => concat(...going.map((entry) => this.#takeOut(entry))).pipe(reduce((sum, bytes) => sum + bytes, 0)));
    });
  }

  limits(): Call<DmaLimits> {
    return nowCall(() => {
      this.#parts.requireOpen('VFIO_IOMMU_GET_INFO');
      return this.#limits();
    });
  }

  /** What the server asks: DMA by message, answered whatever else is outstanding. */
  serve(command: 'DMA_READ' | 'DMA_WRITE', payload: Uint8Array, answer: Answer): void {
    const part = command === 'DMA_READ' ? readDmaPart(payload) : readDmaData(payload);
    const { iova, size } = part;
    const [entry] = this.#table.overlapping(part);
    const end = iova + BigInt(size);
    if (entry === undefined || iova < entry.iova || end > entry.iova + BigInt(entry.size)) {
      answer(errno.ENODEV);
      return;
    }
    if (!(command === 'DMA_READ' ? entry.read : entry.write)) {
      answer(errno.EINVAL);
      return;
    }
    const at = Number(iova - entry.iova);
    const memory = entry.bytes.subarray(at, at + size);
    if ('data' in part) memory.set(part.data as Uint8Array);
    answer('data' in part ? encodeDmaAccess(part) : encodeDmaAccess(part, memory));
  }

  /** Throws VFIO_E_BUSY while any of the area is shown to the server. */
  requireOut(mapping: Mapping, area: Area): void {
    this.#requireOut(mapping, area.offset - mapping.area.offset, area.size, `munmap region ${mapping.region}`);
  }

  /** All ranges leave, for a port that is closing; each is told. Completes when they have gone, or the connection has. */
  leave(told: (what: string, error?: unknown) => void): Observable<never> {
    const each = this.#table.ranges.map((entry) => {
      const what = `${printRange(entry)} left the IOMMU`;
      return this.#takeOut(entry).pipe(
        tap({ complete: () => told(what) }),
        catchError((error: unknown) => {
          // Without a server nobody is left to whom it could be shown.
          this.#table.remove(entry);
          told(what, VfioError.is(error) && error.code === 'VFIO_E_NO_DEVICE' ? undefined : error);
          return EMPTY;
        }),
      );
    });
    return this.#serial.release(() => concat(...each).pipe(concatMap(() => EMPTY)));
  }

  freeAll(step: (what: string, release: () => void) => void): void {
    for (const memory of [...this.#memories.keys()]) step(`DMA memory of ${memory.size} bytes freed`, () => this.#free(memory));
  }

  #limits(): DmaLimits {
    const { pageSizes, maxDmaMaps } = this.#parts.server();
    return { pageSizes: BigInt(pageSizes), iovaRanges: undefined, available: Math.max(0, maxDmaMaps - this.#table.ranges.length), dirtyPages: undefined };
  }

  #takeOut(entry: Entry): Call<number> {
    return defer(() => {
      // Two may have asked for it: the first has taken it.
      if (!this.#table.overlapping(entry).includes(entry)) return of(0);
      return this.#parts.request('DMA_UNMAP', unmapOperation, encodeDmaUnmap(entry)).pipe(
        map(() => {
          this.#table.remove(entry);
          return entry.size;
        }),
      );
    });
  }

  #sourceOf({ source, offset = 0, size, read, write }: DmaMapRequest): Source {
    const refuse = (why: string): never => {
      throw new VfioError('VFIO_E_RANGE', why, { operation: mapOperation, device: this.#parts.device });
    };
    const page = this.#parts.calls.binding.pageSize;
    if (!read && !write) refuse('devices may neither read nor write it: at least one');
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % page !== 0) refuse(`offset ${offset} is not a multiple of ${page}`);
    if ('region' in source) {
      const file = this.#parts.fileOf(source);
      if (file === undefined || !this.#parts.shows(source, { offset: source.area.offset + offset, size })) return refuse(`${size} bytes at ${offset} are not mapped (any more) there`);
      return { bytes: new Uint8Array(source.memory, offset, size), fd: file.fd, offset: file.offset + offset };
    }
    const own = this.#memories.get(source);
    if (own === undefined) return refuse('the memory is freed, or not of this device: allocate it by allocateDma()');
    if (offset + size > source.size) refuse(`${size} bytes at ${offset}: the memory has ${source.size} bytes`);
    return { bytes: new Uint8Array(source.memory, offset, size), fd: own.fd, offset };
  }

  #free(memory: DmaMemory): void {
    const own = this.#memories.get(memory);
    if (own === undefined) return;
    this.#requireOut(memory, 0, memory.size, 'free DMA memory');
    this.#memories.delete(memory);
    own.mapped.revoke();
    this.#parts.calls.binding.close(own.fd);
    giveBackWhenUnseen(own.mapped, this.#parts.calls);
  }

  #requireOut(source: DmaMemory | Mapping, from: number, size: number, operation: string): void {
    const entry = this.#table.ranges.find((one) => one.source === source && one.bytes.byteOffset < from + size && from < one.bytes.byteOffset + one.size);
    if (entry !== undefined) throw new VfioError('VFIO_E_BUSY', `${printRange(entry)} shows it to the device: unmap that first`, { operation, device: this.#parts.device });
  }
}
