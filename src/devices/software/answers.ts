import {
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_FLAG_CAPS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  VFIO_REGION_REMAP_IRQ_INFO_CAPS,
  VFIO_REGION_SAVING_LAYOUT_CAP,
} from '../uapi/constants.js';
import { deviceInfoLayout } from '../uapi/device-info.js';
import { irqInfoChainLayout, irqInfoLayout } from '../uapi/irq-info.js';
import { regionInfoLayout } from '../uapi/region-info.js';
import type { RemapCapability } from '../uapi/remap-capability.js';
import type { Area } from '../uapi/sparse-areas.js';
import { areasPiece, chained, regionTypePiece, remapPieces, type Piece } from '../uapi/write-capabilities.js';
import type { RegionShape } from './options.js';
import type { PageShape, RemapShape } from './remap-shape.js';

/**
 * This driver's answers to the INFO ioctls, as bytes. They go through the same structs, the same argsz handshake and the
 * same checking readers as a kernel's: what the readers refuse there they refuse here.
 */

/** Where vfio-pci puts region n in the device's file. */
const fileOffsetOf = (index: number): bigint => BigInt(index) << 40n;

export function deviceInfoAnswer(numRegions: number, numIrqs: number, face: 'pci' | 'non-pci'): Uint8Array {
  const { bytes, view } = blank(deviceInfoLayout.sizeof);
  view.setUint32(deviceInfoLayout.argsz, bytes.length, true);
  view.setUint32(deviceInfoLayout.flags, VFIO_DEVICE_FLAGS_RESET | (face === 'pci' ? VFIO_DEVICE_FLAGS_PCI : 0), true);
  view.setUint32(deviceInfoLayout.num_regions, numRegions, true);
  view.setUint32(deviceInfoLayout.num_irqs, numIrqs, true);
  return bytes;
}

/**
 * `region` undefined: an index without a region, size 0. `areas`: what is offered now. `savingAreas`: what is offered in the
 * saving group, where the region has the saving-layout capability.
 */
export function regionInfoAnswer(index: number, region: RegionShape | undefined, areas: readonly Area[], savingAreas: readonly Area[] | undefined): Uint8Array {
  const { bytes, view } = blank(regionInfoLayout.sizeof);
  view.setUint32(regionInfoLayout.index, index, true);
  view.setBigUint64(regionInfoLayout.offset, fileOffsetOf(index), true);
  if (region === undefined) return chained(bytes, regionInfoLayout.cap_offset, []);
  const [first] = areas;
  const whole = first?.offset === 0 && first.size === region.size;
  const pieces = [
    ...(region.type === undefined ? [] : [regionTypePiece(region.type)]),
    ...(areas.length > 0 && !whole ? [areasPiece(VFIO_REGION_INFO_CAP_SPARSE_MMAP, areas)] : []),
    ...(savingAreas === undefined ? [] : [areasPiece(VFIO_REGION_SAVING_LAYOUT_CAP, savingAreas)]),
  ];
  const flags =
    (region.readable ? VFIO_REGION_INFO_FLAG_READ : 0) |
    (region.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0) |
    (areas.length > 0 ? VFIO_REGION_INFO_FLAG_MMAP : 0) |
    (pieces.length > 0 ? VFIO_REGION_INFO_FLAG_CAPS : 0);
  view.setUint32(regionInfoLayout.flags, flags, true);
  view.setBigUint64(regionInfoLayout.size, BigInt(region.size), true);
  return chained(bytes, regionInfoLayout.cap_offset, pieces);
}

/** Any irq but a remap irq: flags and vectors are all there is to say of it. */
export function irqInfoAnswer(index: number, { flags, count }: { readonly flags: number; readonly count: number }): Uint8Array {
  return irqAnswer(irqInfoLayout.sizeof, index, flags, count, []);
}

/** A remap irq, which has one vector, and its page. */
export function remapIrqInfoAnswer({ shape, page }: { readonly shape: RemapShape; readonly page: PageShape }): Uint8Array {
  const flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_REGION_REMAP_IRQ_INFO_CAPS;
  return irqAnswer(irqInfoChainLayout.sizeof, page.irqIndex, flags, 1, remapPieces(capabilityOf(shape, page)));
}

function irqAnswer(sizeof: number, index: number, flags: number, count: number, pieces: readonly Piece[]): Uint8Array {
  const { bytes, view } = blank(sizeof);
  view.setUint32(irqInfoLayout.flags, flags, true);
  view.setUint32(irqInfoLayout.index, index, true);
  view.setUint32(irqInfoLayout.count, count, true);
  return chained(bytes, irqInfoChainLayout.cap_offset, pieces);
}

/** The argsz handshake from the driver's side: an answer that does not fit goes down without its chain, with the size it needs. */
export function answerInto(buffer: Uint8Array, answer: Uint8Array, fixedBytes: number, capOffsetAt: number | undefined): void {
  const fits = answer.length <= buffer.length;
  buffer.set(fits ? answer : answer.subarray(0, Math.min(fixedBytes, buffer.length)));
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  view.setUint32(0, answer.length, true);
  if (!fits && capOffsetAt !== undefined && buffer.length >= capOffsetAt + 4) view.setUint32(capOffsetAt, 0, true);
}

function capabilityOf(remap: RemapShape, { page, regions }: PageShape): RemapCapability {
  if (remap.profile === 'rfc-v4') return { subtype: 'rfc-v4' };
  return {
    subtype: 'region-remap', page, regions, doorbell: remap.signals === 'doorbell', noAck: remap.ack === 'none', maxWaits: remap.maxWaits,
    // At least 1: a fraction of a millisecond is a wait of its own in virtual time, but 0 is invalid in the capability.
    ackTimeoutMs: Math.max(1, Math.round(remap.ackTimeoutMs)),
  };
}

function blank(size: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(size);
  return { bytes, view: new DataView(bytes.buffer) };
}
