import { answerView, protocolError, readExact, viewOf, type Origin } from './bytes.js';
import { capabilityView, findCapability, readChain, type Capability } from './capabilities.js';
import {
  VFIO_DMA_MAP_FLAG_READ,
  VFIO_DMA_MAP_FLAG_WRITE,
  VFIO_IOMMU_INFO_CAPS,
  VFIO_IOMMU_INFO_PGSIZES,
  VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
  VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
  VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
} from './constants.js';

/** struct vfio_iommu_type1_info. */
export const iommuInfoLayout = { argsz: 0, flags: 4, iova_pgsizes: 8, cap_offset: 16, sizeof: 24 } as const;

/** struct vfio_iommu_type1_info_cap_iova_range. */
export const iovaRangesLayout = { header: 0, nr_iovas: 8, reserved: 12, iova_ranges: 16, sizeof: 16 } as const;

/** struct vfio_iova_range. */
export const iovaRangeLayout = { start: 0, end: 8, sizeof: 16 } as const;

/** struct vfio_iommu_type1_info_cap_migration. */
export const iommuMigrationLayout = { header: 0, flags: 8, pgsize_bitmap: 16, max_dirty_bitmap_size: 24, sizeof: 32 } as const;

/** struct vfio_iommu_type1_info_dma_avail. */
export const dmaAvailLayout = { header: 0, avail: 8, sizeof: 12 } as const;

/** struct vfio_iommu_type1_dma_map. */
export const dmaMapLayout = { argsz: 0, flags: 4, vaddr: 8, iova: 16, size: 24, sizeof: 32 } as const;

/** struct vfio_iommu_type1_dma_unmap. */
export const dmaUnmapLayout = { argsz: 0, flags: 4, iova: 8, size: 16, sizeof: 24 } as const;

/** A range of IO virtual addresses, bytes: what a device must name to reach memory. */
export interface IovaRange {
  readonly iova: bigint;
  readonly size: number;
}

/** What the IOMMU of a container takes: struct vfio_iommu_type1_info and its chain, read. */
export interface DmaLimits {
  /** Bit n: pages of 2^n bytes. The lowest is the granularity of iova, size and memory. */
  readonly pageSizes: bigint;
  /** Where an iova may lie, both ends included, sorted and apart; undefined where there is no such limit (mdevs alone). */
  readonly iovaRanges: readonly { readonly start: bigint; readonly end: bigint }[] | undefined;
  /** How many ranges more the container takes (module parameter dma_entry_limit, 65,535); undefined on kernels before 5.10. */
  readonly available: number | undefined;
  /** The IOMMU can say which pages were written (VFIO_IOMMU_DIRTY_PAGES), in pages of these sizes. */
  readonly dirtyPages: { readonly pageSizes: bigint; readonly maxBitmapBytes: number } | undefined;
}

const operation = 'VFIO_IOMMU_GET_INFO';

/** The argument of VFIO_IOMMU_GET_INFO, with room for an answer of `bytes`. */
export function encodeIommuInfoQuery(bytes: number): Uint8Array {
  const query = new Uint8Array(bytes);
  viewOf(query).setUint32(iommuInfoLayout.argsz, bytes, true);
  return query;
}

/** Reads an answer to VFIO_IOMMU_GET_INFO. Throws VFIO_E_PROTOCOL where it is cut off or contradicts itself. */
export function readIommuInfo(bytes: Uint8Array, device?: string): DmaLimits {
  const origin = { operation, device };
  const view = answerView(bytes, iommuInfoLayout.cap_offset, origin);
  const flags = view.getUint32(iommuInfoLayout.flags, true);
  const pageSizes = (flags & VFIO_IOMMU_INFO_PGSIZES) === 0 ? 0n : view.getBigUint64(iommuInfoLayout.iova_pgsizes, true);
  if (pageSizes === 0n) throw protocolError(origin, iommuInfoLayout.iova_pgsizes, 'the IOMMU has no page size');
  const chain = readChain(view, (flags & VFIO_IOMMU_INFO_CAPS) !== 0, iommuInfoLayout.cap_offset, iommuInfoLayout.sizeof, origin);
  const known = (id: number): Capability | undefined => {
    const capability = findCapability(chain, id, origin);
    // Another version has another layout: as good as not there.
    return capability?.version === 1 ? capability : undefined;
  };
  return {
    pageSizes,
    iovaRanges: readIovaRanges(known(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE), origin),
    available: readAvailable(known(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL), origin),
    dirtyPages: readDirtyPages(known(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION), origin),
  };
}

/** The argument of VFIO_IOMMU_MAP_DMA. `vaddr`: where the memory begins in this process. */
export function encodeDmaMap(map: IovaRange & { readonly vaddr: bigint; readonly read: boolean; readonly write: boolean }): Uint8Array {
  const bytes = new Uint8Array(dmaMapLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(dmaMapLayout.argsz, bytes.length, true);
  view.setUint32(dmaMapLayout.flags, (map.read ? VFIO_DMA_MAP_FLAG_READ : 0) | (map.write ? VFIO_DMA_MAP_FLAG_WRITE : 0), true);
  view.setBigUint64(dmaMapLayout.vaddr, map.vaddr, true);
  view.setBigUint64(dmaMapLayout.iova, map.iova, true);
  view.setBigUint64(dmaMapLayout.size, BigInt(map.size), true);
  return bytes;
}

/** The argument of VFIO_IOMMU_UNMAP_DMA. */
export function encodeDmaUnmap(range: IovaRange): Uint8Array {
  const bytes = new Uint8Array(dmaUnmapLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(dmaUnmapLayout.argsz, bytes.length, true);
  view.setBigUint64(dmaUnmapLayout.iova, range.iova, true);
  view.setBigUint64(dmaUnmapLayout.size, BigInt(range.size), true);
  return bytes;
}

/** How many bytes went, by the answer to VFIO_IOMMU_UNMAP_DMA. Throws VFIO_E_PROTOCOL where it is more than was asked for. */
export function readUnmapped(bytes: Uint8Array, asked: number, device?: string): number {
  const origin = { operation: 'VFIO_IOMMU_UNMAP_DMA', device };
  const size = readExact(answerView(bytes, dmaUnmapLayout.sizeof, origin), dmaUnmapLayout.size, 'size', origin);
  if (size > asked) throw protocolError(origin, dmaUnmapLayout.size, `${size} bytes were unmapped, ${asked} were asked for`);
  return size;
}

function readIovaRanges(capability: Capability | undefined, origin: Origin): DmaLimits['iovaRanges'] {
  if (capability === undefined) return undefined;
  const view = capabilityView(capability, iovaRangesLayout.sizeof, origin);
  const count = view.getUint32(iovaRangesLayout.nr_iovas, true);
  const room = Math.floor((view.byteLength - iovaRangesLayout.iova_ranges) / iovaRangeLayout.sizeof);
  if (count > room) throw protocolError(origin, capability.offset + iovaRangesLayout.nr_iovas, `nr_iovas is ${count}, there is room for ${room}`);
  const ranges = Array.from({ length: count }, (_, n) => {
    const at = iovaRangesLayout.iova_ranges + n * iovaRangeLayout.sizeof;
    const range = { start: view.getBigUint64(at + iovaRangeLayout.start, true), end: view.getBigUint64(at + iovaRangeLayout.end, true) };
    if (range.start > range.end) throw protocolError(origin, capability.offset + at, `iova range ${n} ends before it starts`);
    return range;
  });
  ranges.sort((a, b) => (a.start < b.start ? -1 : 1));
  ranges.forEach(({ start }, n) => {
    const before = ranges[n - 1];
    if (before !== undefined && start <= before.end) throw protocolError(origin, capability.offset, `two iova ranges overlap at 0x${start.toString(16)}`);
  });
  return ranges;
}

function readAvailable(capability: Capability | undefined, origin: Origin): number | undefined {
  return capability === undefined ? undefined : capabilityView(capability, dmaAvailLayout.sizeof, origin).getUint32(dmaAvailLayout.avail, true);
}

function readDirtyPages(capability: Capability | undefined, origin: Origin): DmaLimits['dirtyPages'] {
  if (capability === undefined) return undefined;
  const view = capabilityView(capability, iommuMigrationLayout.sizeof, origin);
  return {
    pageSizes: view.getBigUint64(iommuMigrationLayout.pgsize_bitmap, true),
    maxBitmapBytes: readExact(view, iommuMigrationLayout.max_dirty_bitmap_size, 'max_dirty_bitmap_size', origin, capability.offset),
  };
}
