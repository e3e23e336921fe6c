import { protocolError, viewOf, type Origin } from '../../uapi/bytes.js';
import { VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP, VFIO_REGION_REMAP_IRQ_INFO_CAPS } from '../../uapi/constants.js';
import { capHeaderLayout } from '../../uapi/capabilities.js';
import { deviceInfoLayout, type DeviceInfo } from '../../uapi/device-info.js';
import { irqInfoChainLayout, irqInfoLayout, type IrqInfo } from '../../uapi/irq-info.js';
import { regionInfoLayout, type RegionInfo } from '../../uapi/region-info.js';
import { areasPiece, chained, regionTypePiece, remapPieces, type Piece } from '../../uapi/write-capabilities.js';
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

/** `argsz` beyond the struct is for who can read a chain. */
export function encodeIrqInfoQuery(index: number, argsz: number = irqInfoLayout.sizeof): Uint8Array {
  const { bytes, view } = struct(irqInfoLayout.sizeof);
  view.setUint32(irqInfoLayout.argsz, argsz, true);
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

/** The reply for an irq. A remap irq has a chain, where the client takes so much; where not it says what it needs. */
export function encodeIrqInfo({ index, flags, count, remap }: Pick<IrqInfo, 'index' | 'flags' | 'count' | 'remap'>, argsz: number = irqInfoLayout.sizeof): Uint8Array {
  const whole = remap === undefined ? undefined : chained(new Uint8Array(irqInfoChainLayout.sizeof), irqInfoChainLayout.cap_offset, remapPieces(remap));
  const fits = whole !== undefined && argsz >= whole.length;
  const bytes = fits ? whole : encodeIrqInfoQuery(index, whole?.length);
  const view = viewOf(bytes);
  view.setUint32(irqInfoLayout.flags, (flags & ~VFIO_REGION_REMAP_IRQ_INFO_CAPS) | (fits ? VFIO_REGION_REMAP_IRQ_INFO_CAPS : 0), true);
  view.setUint32(irqInfoLayout.index, index, true);
  view.setUint32(irqInfoLayout.count, count, true);
  return bytes;
}

/** Whether what this remap irq demands can be done over a socket: its acks must carry their number. */
export function remapTravels({ remap }: Pick<IrqInfo, 'remap'>): boolean {
  return remap?.subtype === 'region-remap' && !remap.noAck;
}

/** What a reply tells of a region. */
export type UserRegionInfo = Pick<RegionInfo, 'index' | 'flags' | 'size' | 'fileOffset' | 'areas' | 'type' | 'msixMappable'>;

/**
 * The reply for a region, as much of it as a client with this `argsz` takes: without its chain where that does not fit, and then the
 * client asks again. `areas` of a mappable region always travel as a sparse capability: peers send the fd with it alone.
 */
export function encodeRegionInfo(info: UserRegionInfo, argsz: number): Uint8Array {
  const pieces = piecesOf(info);
  const whole = chained(new Uint8Array(regionInfoLayout.sizeof), regionInfoLayout.cap_offset, pieces);
  const fits = argsz >= whole.length;
  const bytes = fits ? whole : new Uint8Array(regionInfoLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(regionInfoLayout.argsz, whole.length, true);
  view.setUint32(regionInfoLayout.flags, (info.flags & ~VFIO_REGION_INFO_FLAG_CAPS) | (fits && pieces.length > 0 ? VFIO_REGION_INFO_FLAG_CAPS : 0), true);
  view.setUint32(regionInfoLayout.index, info.index, true);
  view.setBigUint64(regionInfoLayout.size, BigInt(info.size), true);
  view.setBigUint64(regionInfoLayout.offset, BigInt(info.fileOffset), true);
  return bytes;
}

function piecesOf({ flags, areas, type, msixMappable }: UserRegionInfo): readonly Piece[] {
  return [
    ...((flags & VFIO_REGION_INFO_FLAG_MMAP) === 0 ? [] : [areasPiece(VFIO_REGION_INFO_CAP_SPARSE_MMAP, areas)]),
    ...(type === undefined ? [] : [regionTypePiece(type)]),
    ...(msixMappable ? [{ id: VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, version: 1, bytes: new Uint8Array(capHeaderLayout.sizeof) }] : []),
  ];
}

/** GET_REGION_IO_FDS, answered without any: every access is a message, or goes through a mapping. */
export function encodeNoIoFds(index: number): Uint8Array {
  const { bytes, view } = struct(ioFdsLayout.sizeof);
  view.setUint32(ioFdsLayout.argsz, bytes.length, true);
  view.setUint32(ioFdsLayout.index, index, true);
  return bytes;
}
