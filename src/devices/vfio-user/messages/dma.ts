import { protocolError, readExact } from '../../uapi/bytes.js';
import type { IovaRange } from '../../uapi/dma.js';
import { dataAfter, payloadView, struct } from './fields.js';
import { maxDataBytes } from './header.js';

export const dmaMapLayout = { argsz: 0, flags: 4, offset: 8, address: 16, size: 24, sizeof: 32 } as const;
export const dmaUnmapLayout = { argsz: 0, flags: 4, address: 8, size: 16, sizeof: 24 } as const;
/** DMA_READ and DMA_WRITE, commands and replies: `count` is a u64, whatever the protocol's text says of the WRITE reply. */
export const dmaAccessLayout = { address: 0, count: 8, data: 16, sizeof: 16 } as const;

const readable = 1;
const writable = 2;
/** Unmap all: address and size are 0. */
const unmapAll = 2;
const dirtyBitmap = 1;

/** A DMA_MAP command; the memory itself is the fd that comes with it, or is reached by DMA_READ and DMA_WRITE alone. */
export interface DmaMap extends IovaRange {
  /** In the fd, bytes. */
  readonly offset: number;
  readonly read: boolean;
  readonly write: boolean;
}

export function encodeDmaMap({ iova, size, offset, read, write }: DmaMap): Uint8Array {
  const { bytes, view } = struct(dmaMapLayout.sizeof);
  view.setUint32(dmaMapLayout.argsz, bytes.length, true);
  view.setUint32(dmaMapLayout.flags, (read ? readable : 0) | (write ? writable : 0), true);
  view.setBigUint64(dmaMapLayout.offset, BigInt(offset), true);
  view.setBigUint64(dmaMapLayout.address, iova, true);
  view.setBigUint64(dmaMapLayout.size, BigInt(size), true);
  return bytes;
}

export function readDmaMap(payload: Uint8Array): DmaMap {
  const origin = { operation: 'vfio-user DMA_MAP' };
  const view = payloadView(payload, dmaMapLayout.sizeof, origin);
  const flags = view.getUint32(dmaMapLayout.flags, true);
  if ((flags & ~(readable | writable)) !== 0) throw protocolError(origin, dmaMapLayout.flags, `unknown flags 0x${flags.toString(16)}`);
  return {
    iova: view.getBigUint64(dmaMapLayout.address, true),
    size: readExact(view, dmaMapLayout.size, 'size', origin),
    offset: readExact(view, dmaMapLayout.offset, 'offset', origin),
    read: (flags & readable) !== 0,
    write: (flags & writable) !== 0,
  };
}

/** The command, and its reply. */
export function encodeDmaUnmap({ iova, size }: IovaRange): Uint8Array {
  const { bytes, view } = struct(dmaUnmapLayout.sizeof);
  view.setUint32(dmaUnmapLayout.argsz, bytes.length, true);
  view.setBigUint64(dmaUnmapLayout.address, iova, true);
  view.setBigUint64(dmaUnmapLayout.size, BigInt(size), true);
  return bytes;
}

/** `all`: every range, and this one says nothing. */
export function readDmaUnmap(payload: Uint8Array): IovaRange & { readonly all: boolean } {
  const origin = { operation: 'vfio-user DMA_UNMAP' };
  const view = payloadView(payload, dmaUnmapLayout.sizeof, origin);
  const flags = view.getUint32(dmaUnmapLayout.flags, true);
  if ((flags & dirtyBitmap) !== 0) throw protocolError(origin, dmaUnmapLayout.flags, 'the dirty bitmap of an unmap is not offered');
  return { iova: view.getBigUint64(dmaUnmapLayout.address, true), size: readExact(view, dmaUnmapLayout.size, 'size', origin), all: (flags & unmapAll) !== 0 };
}

/** A command or a reply; `data` behind the READ reply and the WRITE command. */
export function encodeDmaAccess({ iova, size }: IovaRange, data?: Uint8Array): Uint8Array {
  const { bytes, view } = struct(dmaAccessLayout.sizeof, data);
  view.setBigUint64(dmaAccessLayout.address, iova, true);
  view.setBigUint64(dmaAccessLayout.count, BigInt(size), true);
  return bytes;
}

const accessOrigin = { operation: 'vfio-user DMA access' };

/** What a DMA_READ command asks for. */
export function readDmaPart(payload: Uint8Array): IovaRange {
  const view = payloadView(payload, dmaAccessLayout.sizeof, accessOrigin);
  const size = readExact(view, dmaAccessLayout.count, 'count', accessOrigin);
  if (size > maxDataBytes) throw protocolError(accessOrigin, dmaAccessLayout.count, `count ${size}, at most ${maxDataBytes}`);
  return { iova: view.getBigUint64(dmaAccessLayout.address, true), size };
}

/** A DMA_WRITE command, and a DMA_READ reply. */
export function readDmaData(payload: Uint8Array): IovaRange & { readonly data: Uint8Array } {
  const part = readDmaPart(payload);
  return { ...part, data: dataAfter(payload, dmaAccessLayout.sizeof, part.size, accessOrigin) };
}
