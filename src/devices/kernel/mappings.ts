import { VfioError } from '../../errors.js';
import { mapRegion, type MappedMemory } from '../linux/mapped-memory.js';
import type { Syscalls } from '../linux/syscalls.js';
import type { Area, Mapping, RegionInfo } from '../port.js';
import { coversAreas, intersectAreas, subtractAreas } from '../protocol/areas.js';
import { runAllOrThrow } from './run-all.js';

interface Live {
  readonly memory: MappedMemory;
  parts: readonly Area[];
}

/** What the mappings of a device cost. */
export interface MappingCounters {
  /** Mappings that show the device, at least in part. */
  readonly mapped: number;
  /** Revoked ones whose address space is kept, and how much that is. */
  readonly reserved: number;
  readonly reservedBytes: number;
  /** How often a kept one was used again. */
  readonly reused: number;
}

/**
 * The mapped areas of one device. A revoked part is replaced by zero pages at the same address: the driver sees its vma
 * close, and a stale view neither faults nor reaches the device.
 *
 * For the sake of stale views that address space is kept until the device is closed; it is used again when the same area
 * of the same region is mapped again, so that it does not grow with the number of remaps. A view from before the
 * revocation then shows the device's memory once more: the very bytes that the layout offers at that moment, until they
 * are revoked again. It never shows anything else.
 */
export class KernelMappings {
  readonly #fd: number;
  readonly #calls: Syscalls;
  readonly #device: string;
  readonly #requireOut: (mapping: Mapping, area: Area) => void;
  readonly #live = new Map<Mapping, Live>();
  /** Revoked whole, by the area that they were made for. */
  readonly #reserved = new Map<string, MappedMemory[]>();
  #reused = 0;

  /** @param requireOut throws while any of the area is in the IOMMU: it must not be unmapped then */
  constructor(fd: number, calls: Syscalls, device: string, requireOut: (mapping: Mapping, area: Area) => void) {
    this.#fd = fd;
    this.#calls = calls;
    this.#device = device;
    this.#requireOut = requireOut;
  }

  get counters(): MappingCounters {
    const reserved = [...this.#reserved.values()].flat();
    const reservedBytes = reserved.reduce((sum, { size }) => sum + size, 0);
    return { mapped: this.#live.size, reserved: reserved.length, reservedBytes, reused: this.#reused };
  }

  /** `layout` is the latest answer for this region: only what it offers is mapped. `fd`: where each region has a file of its own. */
  map(layout: RegionInfo, area: Area, fd = this.#fd): Mapping {
    const operation = `mmap region ${layout.index}`;
    this.#requirePages(area, operation);
    if (!coversAreas(layout.areas, [area])) {
      throw new VfioError('VFIO_E_RANGE', `the layout does not offer ${print(area)}`, { operation, device: this.#device, errno: 'EINVAL' });
    }
    const memory = this.#memory(layout, area, fd);
    const mapping: Mapping = { region: layout.index, area, memory: memory.memory, address: memory.address };
    this.#live.set(mapping, { memory, parts: [area] });
    return mapping;
  }

  /** Takes what is still mapped of the part; like munmap it does not mind a hole. */
  unmap(mapping: Mapping, area: Area): void {
    this.#requirePages(area, `munmap region ${mapping.region}`);
    const live = this.#live.get(mapping);
    if (live === undefined) return;
    this.#requireOut(mapping, area);
    for (const part of intersectAreas(live.parts, [area])) {
      live.memory.revoke({ offset: part.offset - mapping.area.offset, size: part.size });
      live.parts = subtractAreas(live.parts, [part]);
    }
    if (live.parts.length === 0) this.#reserve(mapping, live.memory);
  }

  /** True where all of the area is still mapped there. */
  shows(mapping: Mapping, area: Area): boolean {
    return coversAreas(this.#live.get(mapping)?.parts ?? [], [area]);
  }

  /**
   * Takes every area away, one `step` for each; a step may fail, and the others are made all the same. With
   * `keepReserved` the address space stays reserved for stale views.
   */
  close(keepReserved: boolean, step: (what: string, release: () => void) => void): void {
    for (const [mapping, { memory }] of [...this.#live]) {
      step(`region ${mapping.region} ${print(mapping.area)} unmapped`, () => {
        this.#requireOut(mapping, mapping.area);
        this.#reserve(mapping, memory);
        memory.revoke();
      });
    }
    const reserved = [...this.#reserved.values()].flat();
    this.#reserved.clear();
    if (keepReserved || reserved.length === 0) return;
    step('address space given back', () => runAllOrThrow(reserved.map((memory) => () => memory.close())));
  }

  #memory(layout: RegionInfo, area: Area, fd: number): MappedMemory {
    const offset = BigInt(layout.fileOffset + area.offset);
    const protection = { read: layout.readable, write: layout.writable };
    const kept = this.#reserved.get(keyOf(layout.index, area));
    const memory = kept?.at(-1);
    if (kept === undefined || memory === undefined) return mapRegion(fd, offset, area.size, protection, this.#calls, this.#device);
    memory.place(fd, offset, protection);
    kept.pop();
    this.#reused += 1;
    return memory;
  }

  #reserve(mapping: Mapping, memory: MappedMemory): void {
    this.#live.delete(mapping);
    const key = keyOf(mapping.region, mapping.area);
    this.#reserved.set(key, [...(this.#reserved.get(key) ?? []), memory]);
  }

  #requirePages(area: Area, operation: string): void {
    const page = this.#calls.binding.pageSize;
    if (area.size > 0 && area.offset >= 0 && area.offset % page === 0 && area.size % page === 0) return;
    throw new VfioError('VFIO_E_RANGE', `${print(area)} is not made of whole pages of ${page} bytes`, { operation, device: this.#device, errno: 'EINVAL' });
  }
}

function keyOf(region: number, area: Area): string {
  return `${region} ${print(area)}`;
}

function print(area: Area): string {
  return `0x${area.offset.toString(16)}+0x${area.size.toString(16)}`;
}
