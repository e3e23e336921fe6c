import { VfioError } from '../../errors.js';
import { mapRegion, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Area, Mapping, RegionInfo } from '../port.js';
import { coversAreas, intersectAreas, subtractAreas } from '../protocol/areas.js';

/** Revoked address space that is kept for stale views (zero pages), mappings; the oldest is given back beyond this. */
const mostRetired = 64;

interface Live {
  readonly memory: MappedMemory;
  parts: readonly Area[];
}

/**
 * The mapped areas of one device. A revoked part is replaced by zero pages at the same address: the driver sees its vma
 * close, and a stale view neither faults nor reaches the device.
 */
export class KernelMappings {
  readonly #fd: number;
  readonly #calls: Syscalls;
  readonly #device: string;
  readonly #live = new Map<Mapping, Live>();
  readonly #retired: MappedMemory[] = [];

  constructor(fd: number, calls: Syscalls, device: string) {
    this.#fd = fd;
    this.#calls = calls;
    this.#device = device;
  }

  get size(): number {
    return this.#live.size;
  }

  /** `layout` is the latest answer for this region: only what it offers is mapped. */
  map(layout: RegionInfo, area: Area): Mapping {
    const operation = `mmap region ${layout.index}`;
    this.#requirePages(area, operation);
    if (!coversAreas(layout.areas, [area])) {
      throw new VfioError('VFIO_E_RANGE', `the layout does not offer ${print(area)}`, { operation, device: this.#device, errno: 'EINVAL' });
    }
    const memory = mapRegion(this.#fd, BigInt(layout.fileOffset + area.offset), area.size, { read: layout.readable, write: layout.writable }, this.#calls, this.#device);
    const mapping: Mapping = { region: layout.index, area, memory: memory.memory, address: memory.address };
    this.#live.set(mapping, { memory, parts: [area] });
    return mapping;
  }

  /** Takes what is still mapped of the part; like munmap it does not mind a hole. */
  unmap(mapping: Mapping, area: Area): void {
    this.#requirePages(area, `munmap region ${mapping.region}`);
    const live = this.#live.get(mapping);
    if (live === undefined) return;
    for (const part of intersectAreas(live.parts, [area])) {
      live.memory.revoke({ offset: part.offset - mapping.area.offset, size: part.size });
    }
    live.parts = subtractAreas(live.parts, [area]);
    if (live.parts.length === 0) this.#retire(mapping, live.memory);
  }

  /** Takes every area away. Address space stays reserved for stale views with `keepReserved`. Yields what it did. */
  *close(keepReserved: boolean): Generator<string> {
    for (const [mapping, { memory }] of this.#live) {
      memory.revoke();
      this.#retired.push(memory);
      yield `region ${mapping.region} ${print(mapping.area)} unmapped`;
    }
    this.#live.clear();
    for (const memory of this.#retired.splice(0)) if (!keepReserved) memory.close();
  }

  #retire(mapping: Mapping, memory: MappedMemory): void {
    this.#live.delete(mapping);
    this.#retired.push(memory);
    if (this.#retired.length > mostRetired) this.#retired.shift()?.close();
  }

  #requirePages(area: Area, operation: string): void {
    const page = this.#calls.binding.pageSize;
    if (area.size > 0 && area.offset >= 0 && area.offset % page === 0 && area.size % page === 0) return;
    throw new VfioError('VFIO_E_RANGE', `${print(area)} is not made of whole pages of ${page} bytes`, { operation, device: this.#device, errno: 'EINVAL' });
  }
}

function print(area: Area): string {
  return `0x${area.offset.toString(16)}+0x${area.size.toString(16)}`;
}
