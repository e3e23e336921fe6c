import { protocolError, readExact, viewOf, type Origin } from './bytes.js';
import { IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE } from './constants.js';
import type { DmaLimits, IovaRange } from './dma.js';

/** struct iommu_destroy. */
export const iommuDestroyLayout = { size: 0, id: 4, sizeof: 8 } as const;

/** struct iommu_ioas_alloc. */
export const ioasAllocLayout = { size: 0, flags: 4, out_ioas_id: 8, sizeof: 12 } as const;

/** struct iommu_ioas_iova_ranges. */
export const ioasIovaRangesLayout = { size: 0, ioas_id: 4, num_iovas: 8, __reserved: 12, allowed_iovas: 16, out_iova_alignment: 24, sizeof: 32 } as const;

/** struct iommu_iova_range. */
export const ioasIovaRangeLayout = { start: 0, last: 8, sizeof: 16 } as const;

/** struct iommu_ioas_map. */
export const ioasMapLayout = { size: 0, flags: 4, ioas_id: 8, __reserved: 12, user_va: 16, length: 24, iova: 32, sizeof: 40 } as const;

/** struct iommu_ioas_unmap. */
export const ioasUnmapLayout = { size: 0, ioas_id: 4, iova: 8, length: 16, sizeof: 24 } as const;

/** A struct of iommufd: its size stands first. */
export function iommuCommand(size: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  view.setUint32(0, size, true);
  return { bytes, view };
}

/** The answer's view. Throws VFIO_E_PROTOCOL where it is cut off. */
export function iommuAnswer(bytes: Uint8Array, size: number, origin: Origin): DataView {
  if (bytes.length < size) throw protocolError(origin, bytes.length, `cut off: ${bytes.length} of ${size} bytes`);
  return viewOf(bytes);
}

/** The argument of IOMMU_DESTROY. */
export function encodeDestroy(id: number): Uint8Array {
  const { bytes, view } = iommuCommand(iommuDestroyLayout.sizeof);
  view.setUint32(iommuDestroyLayout.id, id, true);
  return bytes;
}

/** The argument of IOMMU_IOAS_ALLOC. */
export function encodeIoasAlloc(): Uint8Array {
  return iommuCommand(ioasAllocLayout.sizeof).bytes;
}

/** The id of the new IOAS. */
export function readIoasId(bytes: Uint8Array): number {
  return iommuAnswer(bytes, ioasAllocLayout.sizeof, { operation: 'IOMMU_IOAS_ALLOC' }).getUint32(ioasAllocLayout.out_ioas_id, true);
}

/** The argument of IOMMU_IOAS_IOVA_RANGES. `address`: where the kernel writes up to `count` ranges in this process. */
export function encodeIovaRanges(ioas: number, count: number, address: bigint): Uint8Array {
  const { bytes, view } = iommuCommand(ioasIovaRangesLayout.sizeof);
  view.setUint32(ioasIovaRangesLayout.ioas_id, ioas, true);
  view.setUint32(ioasIovaRangesLayout.num_iovas, count, true);
  view.setBigUint64(ioasIovaRangesLayout.allowed_iovas, address, true);
  return bytes;
}

/**
 * What the IOMMUs of all devices in an IOAS take, by the answer to IOMMU_IOAS_IOVA_RANGES and the memory that it filled. There is no limit to the
 * number of ranges. Throws VFIO_E_PROTOCOL where it contradicts itself.
 */
export function readIovaRanges(bytes: Uint8Array, memory: Uint8Array, device?: string): DmaLimits {
  const origin = { operation: 'IOMMU_IOAS_IOVA_RANGES', device };
  const view = iommuAnswer(bytes, ioasIovaRangesLayout.sizeof, origin);
  const count = view.getUint32(ioasIovaRangesLayout.num_iovas, true);
  const room = Math.floor(memory.length / ioasIovaRangeLayout.sizeof);
  if (count > room) throw protocolError(origin, ioasIovaRangesLayout.num_iovas, `num_iovas is ${count}, there is room for ${room}`);
  const alignment = view.getBigUint64(ioasIovaRangesLayout.out_iova_alignment, true);
  if (alignment === 0n || (alignment & (alignment - 1n)) !== 0n) throw protocolError(origin, ioasIovaRangesLayout.out_iova_alignment, `an alignment of ${alignment} is no power of two`);
  const answered = viewOf(memory);
  let end = -1n;
  const iovaRanges = Array.from({ length: count }, (_, n) => {
    const at = n * ioasIovaRangeLayout.sizeof;
    const range = { start: answered.getBigUint64(at + ioasIovaRangeLayout.start, true), end: answered.getBigUint64(at + ioasIovaRangeLayout.last, true) };
    if (range.start <= end || range.start > range.end) throw protocolError(origin, at, `iova range ${n} is not in order`);
    end = range.end;
    return range;
  });
  return { pageSizes: alignment, iovaRanges, available: undefined, dirtyPages: undefined };
}

/** The argument of IOMMU_IOAS_MAP, at this very address. `vaddr`: where the memory begins in this process. */
export function encodeIoasMap(ioas: number, map: IovaRange & { readonly vaddr: bigint; readonly read: boolean; readonly write: boolean }): Uint8Array {
  const { bytes, view } = iommuCommand(ioasMapLayout.sizeof);
  const rights = (map.read ? IOMMU_IOAS_MAP_READABLE : 0) | (map.write ? IOMMU_IOAS_MAP_WRITEABLE : 0);
  view.setUint32(ioasMapLayout.flags, IOMMU_IOAS_MAP_FIXED_IOVA | rights, true);
  view.setUint32(ioasMapLayout.ioas_id, ioas, true);
  view.setBigUint64(ioasMapLayout.user_va, map.vaddr, true);
  view.setBigUint64(ioasMapLayout.length, BigInt(map.size), true);
  view.setBigUint64(ioasMapLayout.iova, map.iova, true);
  return bytes;
}

/** The argument of IOMMU_IOAS_UNMAP. */
export function encodeIoasUnmap(ioas: number, range: IovaRange): Uint8Array {
  const { bytes, view } = iommuCommand(ioasUnmapLayout.sizeof);
  view.setUint32(ioasUnmapLayout.ioas_id, ioas, true);
  view.setBigUint64(ioasUnmapLayout.iova, range.iova, true);
  view.setBigUint64(ioasUnmapLayout.length, BigInt(range.size), true);
  return bytes;
}

/** How many bytes went, by the answer to IOMMU_IOAS_UNMAP. Throws VFIO_E_PROTOCOL where it is more than was asked for. */
export function readIoasUnmapped(bytes: Uint8Array, asked: number, device?: string): number {
  const origin = { operation: 'IOMMU_IOAS_UNMAP', device };
  const size = readExact(iommuAnswer(bytes, ioasUnmapLayout.sizeof, origin), ioasUnmapLayout.length, 'length', origin);
  if (size > asked) throw protocolError(origin, ioasUnmapLayout.length, `${size} bytes were unmapped, ${asked} were asked for`);
  return size;
}
