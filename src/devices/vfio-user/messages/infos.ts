import { protocolError, viewOf, type Origin } from '../../uapi/bytes.js';
import { capHeaderLayout } from '../../uapi/capabilities.js';
import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP,
} from '../../uapi/constants.js';
import { deviceInfoLayout, type DeviceInfo } from '../../uapi/device-info.js';
import { irqInfoLayout, type IrqInfo } from '../../uapi/irq-info.js';
import { regionInfoLayout, regionTypeLayout, type RegionInfo } from '../../uapi/region-info.js';
import { sparseAreaLayout, sparseMmapLayout } from '../../uapi/sparse-areas.js';
import { payloadView, struct } from './fields.js';

/**
 * The three INFO commands. Requests and replies are the kernel's structs, so that the readers of uapi read the replies; what a
 * server has to do beside is here. `argsz` of a request: the largest reply payload that the client takes.
 */

/** struct vfio_device_info as this protocol has it: without a chain. */
export const userDeviceInfoBytes = deviceInfoLayout.cap_offset;

export const ioFdsLayout = { argsz: 0, flags: 4, index: 8, count: 12, sizeof: 16 } as const;

/** The least and the most that a client can say it takes. */
const leastArgsz = 16;
const mostArgsz = 1 << 20;

export function encodeDeviceInfoQuery(): Uint8Array {
  const { bytes, view } = struct(userDeviceInfoBytes);
  view.setUint32(deviceInfoLayout.argsz, bytes.length, true);
  return bytes;
}

export function encodeDeviceInfo({ flags, regions, irqs }: Pick<DeviceInfo, 'flags' | 'regions' | 'irqs'>): Uint8Array {
  const bytes = encodeDeviceInfoQuery();
  const view = viewOf(bytes);
  view.setUint32(deviceInfoLayout.flags, flags, true);
  view.setUint32(deviceInfoLayout.num_regions, regions, true);
  view.setUint32(deviceInfoLayout.num_irqs, irqs, true);
  return bytes;
}

/** GET_REGION_INFO and GET_IRQ_INFO: which one, and how much of an answer is taken. */
export interface InfoQuery {
  readonly index: number;
  readonly argsz: number;
}

export function encodeRegionInfoQuery({ index, argsz }: InfoQuery): Uint8Array {
  const { bytes, view } = struct(regionInfoLayout.sizeof);
  view.setUint32(regionInfoLayout.argsz, argsz, true);
  view.setUint32(regionInfoLayout.index, index, true);
  return bytes;
}

export function encodeIrqInfoQuery(index: number): Uint8Array {
  const { bytes, view } = struct(irqInfoLayout.sizeof);
  view.setUint32(irqInfoLayout.argsz, bytes.length, true);
  view.setUint32(irqInfoLayout.index, index, true);
  return bytes;
}

/** Reads any of them; the structs begin alike. Throws VFIO_E_PROTOCOL. */
export function readInfoQuery(payload: Uint8Array, operation: string): InfoQuery {
  const origin: Origin = { operation: `vfio-user ${operation}` };
  const view = payloadView(payload, irqInfoLayout.sizeof, origin);
  const argsz = view.getUint32(irqInfoLayout.argsz, true);
  if (argsz < leastArgsz || argsz > mostArgsz) throw protocolError(origin, 0, `argsz ${argsz} for the reply, ${leastArgsz} to ${mostArgsz} are taken`);
  return { index: view.getUint32(irqInfoLayout.index, true), argsz };
}

export function encodeIrqInfo({ index, flags, count }: Pick<IrqInfo, 'index' | 'flags' | 'count'>): Uint8Array {
  const bytes = encodeIrqInfoQuery(index);
  const view = viewOf(bytes);
  view.setUint32(irqInfoLayout.flags, flags, true);
  view.setUint32(irqInfoLayout.count, count, true);
  return bytes;
}

/**
 * The reply for a region, as much of it as a client with this `argsz` takes: without its chain where that does not fit, and then the
 * client asks again. `areas` of a mappable region always travel as a sparse capability: peers send the fd with it alone.
 */
export function encodeRegionInfo(info: Pick<RegionInfo, 'index' | 'flags' | 'size' | 'fileOffset' | 'areas' | 'type' | 'msixMappable'>, argsz: number): Uint8Array {
  const chain = chainOf(info);
  const needed = regionInfoLayout.sizeof + chain.length;
  const whole = argsz >= needed;
  const { bytes, view } = struct(regionInfoLayout.sizeof, whole ? chain : undefined);
  const withCaps = whole && chain.length > 0;
  view.setUint32(regionInfoLayout.argsz, needed, true);
  view.setUint32(regionInfoLayout.flags, (info.flags & ~VFIO_REGION_INFO_FLAG_CAPS) | (withCaps ? VFIO_REGION_INFO_FLAG_CAPS : 0), true);
  view.setUint32(regionInfoLayout.index, info.index, true);
  view.setUint32(regionInfoLayout.cap_offset, withCaps ? regionInfoLayout.sizeof : 0, true);
  view.setBigUint64(regionInfoLayout.size, BigInt(info.size), true);
  view.setBigUint64(regionInfoLayout.offset, BigInt(info.fileOffset), true);
  return bytes;
}

function chainOf({ flags, areas, type, msixMappable }: Pick<RegionInfo, 'flags' | 'areas' | 'type' | 'msixMappable'>): Uint8Array {
  const capabilities: Uint8Array[] = [];
  if ((flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0) capabilities.push(sparseCapability(areas));
  if (type !== undefined) {
    const { bytes, view } = struct(regionTypeLayout.sizeof);
    view.setUint16(capHeaderLayout.id, VFIO_REGION_INFO_CAP_TYPE, true);
    view.setUint16(capHeaderLayout.version, 1, true);
    view.setUint32(regionTypeLayout.type, type.type, true);
    view.setUint32(regionTypeLayout.subtype, type.subtype, true);
    capabilities.push(bytes);
  }
  if (msixMappable) {
    const { bytes, view } = struct(capHeaderLayout.sizeof);
    view.setUint16(capHeaderLayout.id, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, true);
    view.setUint16(capHeaderLayout.version, 1, true);
    capabilities.push(bytes);
  }
  let offset: number = regionInfoLayout.sizeof;
  capabilities.forEach((bytes, n) => {
    offset += bytes.length;
    viewOf(bytes).setUint32(capHeaderLayout.next, n === capabilities.length - 1 ? 0 : offset, true);
  });
  return Uint8Array.from(capabilities.flatMap((bytes) => [...bytes]));
}

function sparseCapability(areas: RegionInfo['areas']): Uint8Array {
  const { bytes, view } = struct(sparseMmapLayout.sizeof, new Uint8Array(areas.length * sparseAreaLayout.sizeof));
  view.setUint16(capHeaderLayout.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP, true);
  view.setUint16(capHeaderLayout.version, 1, true);
  view.setUint32(sparseMmapLayout.nr_areas, areas.length, true);
  areas.forEach(({ offset, size }, n) => {
    const at = sparseMmapLayout.areas + n * sparseAreaLayout.sizeof;
    view.setBigUint64(at + sparseAreaLayout.offset, BigInt(offset), true);
    view.setBigUint64(at + sparseAreaLayout.size, BigInt(size), true);
  });
  return bytes;
}

/** GET_REGION_IO_FDS, answered without any: every access is a message, or goes through a mapping. */
export function encodeNoIoFds(index: number): Uint8Array {
  const { bytes, view } = struct(ioFdsLayout.sizeof);
  view.setUint32(ioFdsLayout.argsz, bytes.length, true);
  view.setUint32(ioFdsLayout.index, index, true);
  return bytes;
}
