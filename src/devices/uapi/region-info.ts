import { initialAnswerBytes, maxAnswerBytes, withArgsz } from './argsz.js';
import { answerView, protocolError, readExact, requireU32, viewOf, type Origin } from './bytes.js';
import { capabilityView, findCapability, readChain, type Capability } from './capabilities.js';
import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_CAP_TYPE,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_REGION_SAVING_LAYOUT_CAP,
  VFIO_REGION_SAVING_LAYOUT_CAP_VERSION,
} from './constants.js';
import { readSparseAreas, type Area } from './sparse-areas.js';

export type { Area };

/** struct vfio_region_info. */
export const regionInfoLayout = { argsz: 0, flags: 4, index: 8, cap_offset: 12, size: 16, offset: 24, sizeof: 32 } as const;

/** struct vfio_region_info_cap_type. */
export const regionTypeLayout = { header: 0, type: 8, subtype: 12, sizeof: 16 } as const;

/** struct vfio_region_info and its chain, read. A layout of one instant: flags and areas may change at run time. */
export interface RegionInfo {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG_*. */
  readonly flags: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Some of it may be mapped: `areas` says which. */
  readonly mmappable: boolean;
  /** Bytes; 0 where the device has no region here. */
  readonly size: number;
  /** Where byte 0 of the region stands in the device's file, for pread, pwrite and mmap. Every byte's position is exact. */
  readonly fileOffset: number;
  /** What may be mapped: sorted, apart from one another, inside the region; empty without VFIO_REGION_INFO_FLAG_MMAP. */
  readonly areas: readonly Area[];
  /** Profile saving-layout: what may be mapped in the states of the saving group, whatever the state now. Undefined where the driver does not say. */
  readonly savingAreas?: readonly Area[];
  /** What kind of region it is, for indexes beyond the bus's own. */
  readonly type?: { readonly type: number; readonly subtype: number };
  /** The area that holds the MSI-X table may be mapped too (a POWER and x86 property of the interrupt controller). */
  readonly msixMappable: boolean;
}

const operation = 'VFIO_DEVICE_GET_REGION_INFO';

/**
 * Reads an answer to VFIO_DEVICE_GET_REGION_INFO for the region `index`. Unknown flags and capabilities are left alone.
 * Throws VFIO_E_PROTOCOL where the answer is cut off, contradicts itself, is another region's, or passes 2^53.
 */
export function readRegionInfo(bytes: Uint8Array, index: number, device?: string): RegionInfo {
  const origin = { operation: `${operation}(${index})`, device };
  const view = answerView(bytes, regionInfoLayout.sizeof, origin);
  const answered = view.getUint32(regionInfoLayout.index, true);
  if (answered !== index) throw protocolError(origin, regionInfoLayout.index, `region ${answered} answered`);

  const size = readExact(view, regionInfoLayout.size, 'size', origin);
  const fileOffset = readExact(view, regionInfoLayout.offset, 'offset', origin);
  if (fileOffset + size > Number.MAX_SAFE_INTEGER) {
    throw protocolError(origin, regionInfoLayout.offset, `the region's end, ${fileOffset} + ${size}, is not below 2^53`);
  }

  const flags = view.getUint32(regionInfoLayout.flags, true);
  const hasChain = (flags & VFIO_REGION_INFO_FLAG_CAPS) !== 0;
  const capabilities = readChain(view, hasChain, regionInfoLayout.cap_offset, regionInfoLayout.sizeof, origin);
  const mmappable = (flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0;
  const areas = readAreas(capabilities, size, origin);
  const savingAreas = readSavingAreas(capabilities, size, origin);
  const type = readType(capabilities, origin);
  return {
    index,
    flags,
    readable: (flags & VFIO_REGION_INFO_FLAG_READ) !== 0,
    writable: (flags & VFIO_REGION_INFO_FLAG_WRITE) !== 0,
    mmappable,
    size,
    fileOffset,
    areas: mmappable ? areas : [],
    ...(savingAreas === undefined ? {} : { savingAreas }),
    ...(type === undefined ? {} : { type }),
    msixMappable: findCapability(capabilities, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, origin) !== undefined,
  };
}

/** Without a sparse capability the region is one area. An empty region has none: nothing of length 0 can be mapped. */
function readAreas(capabilities: readonly Capability[], size: number, origin: Origin): readonly Area[] {
  const sparse = findCapability(capabilities, VFIO_REGION_INFO_CAP_SPARSE_MMAP, origin);
  if (sparse !== undefined) return readSparseAreas(sparse, size, origin);
  return size === 0 ? [] : [{ offset: 0, size }];
}

/** An unknown version is no saving layout: an old user goes on without, and the driver refuses what needs it. */
function readSavingAreas(capabilities: readonly Capability[], size: number, origin: Origin): readonly Area[] | undefined {
  const capability = findCapability(capabilities, VFIO_REGION_SAVING_LAYOUT_CAP, origin);
  return capability?.version === VFIO_REGION_SAVING_LAYOUT_CAP_VERSION ? readSparseAreas(capability, size, origin) : undefined;
}

function readType(capabilities: readonly Capability[], origin: Origin): RegionInfo['type'] {
  const capability = findCapability(capabilities, VFIO_REGION_INFO_CAP_TYPE, origin);
  if (capability?.version !== 1) return undefined;
  const view = capabilityView(capability, regionTypeLayout.sizeof, origin);
  return { type: view.getUint32(regionTypeLayout.type, true), subtype: view.getUint32(regionTypeLayout.subtype, true) };
}

/**
 * Typed arrays of this length have memory of their own, which the collector has to look after: one for each query was a good part
 * of a remap. What is read out of an answer is copied, so that one buffer serves all.
 */
const scratch = new Uint8Array(initialAnswerBytes);

/** Asks and reads. `call` does VFIO_DEVICE_GET_REGION_INFO on the buffer, which names the region already. */
export function queryRegionInfo(index: number, call: (buffer: Uint8Array) => void, device?: string): RegionInfo {
  requireU32(index, 'a region index', { operation, device });
  const ask = (buffer: Uint8Array): void => {
    viewOf(buffer).setUint32(regionInfoLayout.index, index, true);
    call(buffer);
  };
  return readRegionInfo(withArgsz(scratch, maxAnswerBytes, `${operation}(${index})`, ask, device), index, device);
}
