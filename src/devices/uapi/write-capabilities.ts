import { capHeaderLayout } from './capabilities.js';
import { viewOf } from './bytes.js';
import {
  VFIO_REGION_INFO_CAP_TYPE, VFIO_REGION_REMAP_CAP, VFIO_REGION_REMAP_CAP_TYPE, VFIO_REGION_REMAP_CAP_TYPE_VERSION, VFIO_REGION_REMAP_CAP_VERSION, VFIO_REGION_REMAP_FLAG_DOORBELL,
  VFIO_REGION_REMAP_FLAG_NO_ACK, VFIO_REGION_REMAP_IRQ_SUBTYPE, VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4, VFIO_REGION_REMAP_IRQ_TYPE,
} from './constants.js';
import { regionTypeLayout } from './region-info.js';
import { irqTypeLayout, remapCapLayout, type RemapCapability } from './remap-capability.js';
import { sparseAreaLayout, sparseMmapLayout, type Area } from './sparse-areas.js';

/** One capability as a driver writes it: its bytes have room for the header, which the chain fills in. */
export interface Piece {
  readonly id: number;
  readonly version: number;
  readonly bytes: Uint8Array;
}

/** Puts the capabilities behind the struct, eight-byte aligned, and fills in argsz and the chain's offsets. */
export function chained(fixed: Uint8Array, capOffsetAt: number, pieces: readonly Piece[]): Uint8Array {
  const offsets: number[] = [];
  let end = fixed.length;
  for (const piece of pieces) {
    const at = Math.ceil(end / 8) * 8;
    offsets.push(at);
    end = at + piece.bytes.length;
  }
  const bytes = new Uint8Array(end);
  const view = viewOf(bytes);
  bytes.set(fixed);
  view.setUint32(0, bytes.length, true);
  if (pieces.length > 0) view.setUint32(capOffsetAt, offsets[0] ?? 0, true);
  pieces.forEach((piece, n) => {
    const at = offsets[n] ?? 0;
    bytes.set(piece.bytes, at);
    view.setUint16(at + capHeaderLayout.id, piece.id, true);
    view.setUint16(at + capHeaderLayout.version, piece.version, true);
    view.setUint32(at + capHeaderLayout.next, offsets[n + 1] ?? 0, true);
  });
  return bytes;
}

export function regionTypePiece({ type, subtype }: { readonly type: number; readonly subtype: number }): Piece {
  const bytes = new Uint8Array(regionTypeLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(regionTypeLayout.type, type, true);
  view.setUint32(regionTypeLayout.subtype, subtype, true);
  return { id: VFIO_REGION_INFO_CAP_TYPE, version: 1, bytes };
}

/** The sparse mmap capability, and what has its layout. */
export function areasPiece(id: number, areas: readonly Area[]): Piece {
  const bytes = new Uint8Array(sparseMmapLayout.sizeof + areas.length * sparseAreaLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(sparseMmapLayout.nr_areas, areas.length, true);
  areas.forEach((area, n) => {
    const at = sparseMmapLayout.areas + n * sparseAreaLayout.sizeof;
    view.setBigUint64(at + sparseAreaLayout.offset, BigInt(area.offset), true);
    view.setBigUint64(at + sparseAreaLayout.size, BigInt(area.size), true);
  });
  return { id, version: 1, bytes };
}

/** What tells that an irq is a remap irq. */
export function remapPieces(remap: RemapCapability): readonly Piece[] {
  const type = new Uint8Array(irqTypeLayout.sizeof);
  viewOf(type).setUint32(irqTypeLayout.type, VFIO_REGION_REMAP_IRQ_TYPE, true);
  viewOf(type).setUint32(irqTypeLayout.subtype, remap.subtype === 'rfc-v4' ? VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4 : VFIO_REGION_REMAP_IRQ_SUBTYPE, true);
  const kind = { id: VFIO_REGION_REMAP_CAP_TYPE, version: VFIO_REGION_REMAP_CAP_TYPE_VERSION, bytes: type };
  if (remap.subtype === 'rfc-v4') return [kind];
  const bytes = new Uint8Array(remapCapLayout.sizeof);
  const view = viewOf(bytes);
  view.setUint32(remapCapLayout.page, remap.page, true);
  view.setUint32(remapCapLayout.flags, (remap.doorbell ? VFIO_REGION_REMAP_FLAG_DOORBELL : 0) | (remap.noAck ? VFIO_REGION_REMAP_FLAG_NO_ACK : 0), true);
  view.setBigUint64(remapCapLayout.regions, remap.regions, true);
  view.setUint32(remapCapLayout.ack_timeout_ms, remap.ackTimeoutMs, true);
  view.setUint32(remapCapLayout.max_waits, remap.maxWaits, true);
  return [kind, { id: VFIO_REGION_REMAP_CAP, version: VFIO_REGION_REMAP_CAP_VERSION, bytes }];
}
