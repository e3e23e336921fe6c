import { protocolError, readExact } from '../../uapi/bytes.js';
import { dataAfter, payloadView, struct } from './fields.js';
import { maxDataBytes } from './header.js';

/** REGION_READ and REGION_WRITE, commands and replies. */
export const regionAccessLayout = { offset: 0, region: 8, count: 12, data: 16, sizeof: 16 } as const;

/** One entry of REGION_WRITE_MULTI. */
export const writeMultiLayout = { wr_cnt: 0, writes: 8, sizeof: 8 } as const;
export const writeMultiEntryLayout = { offset: 0, region: 8, count: 12, data: 16, sizeof: 24 } as const;

/** A part of a region, bytes. */
export interface RegionPart {
  readonly region: number;
  readonly offset: number;
  readonly count: number;
}

const operation = 'vfio-user region access';
const origin = { operation };

/** A command or a reply; `data` behind the READ reply and the WRITE command. */
export function encodeRegionAccess({ region, offset, count }: RegionPart, data?: Uint8Array): Uint8Array {
  const { bytes, view } = struct(regionAccessLayout.sizeof, data);
  view.setBigUint64(regionAccessLayout.offset, BigInt(offset), true);
  view.setUint32(regionAccessLayout.region, region, true);
  view.setUint32(regionAccessLayout.count, count, true);
  return bytes;
}

/** A command in place, without its data. */
export function writeRegionAccess(view: DataView, at: number, { region, offset, count }: RegionPart): void {
  view.setUint32(at + regionAccessLayout.offset, offset >>> 0, true);
  view.setUint32(at + regionAccessLayout.offset + 4, Math.floor(offset / 2 ** 32), true);
  view.setUint32(at + regionAccessLayout.region, region, true);
  view.setUint32(at + regionAccessLayout.count, count, true);
}

/** Whether this is the reply to a REGION_READ of this part: what any other is, and what is wrong with it, `readRegionData` says. */
export function answersRead(view: DataView, at: number, end: number, { region, offset, count }: RegionPart): boolean {
  return (
    end - at === regionAccessLayout.sizeof + count &&
    view.getUint32(at + regionAccessLayout.offset, true) === offset >>> 0 &&
    view.getUint32(at + regionAccessLayout.offset + 4, true) === Math.floor(offset / 2 ** 32) &&
    view.getUint32(at + regionAccessLayout.region, true) === region &&
    view.getUint32(at + regionAccessLayout.count, true) === count
  );
}

function readPart(payload: Uint8Array): RegionPart {
  const view = payloadView(payload, regionAccessLayout.sizeof, origin);
  const count = view.getUint32(regionAccessLayout.count, true);
  if (count > maxDataBytes) throw protocolError(origin, regionAccessLayout.count, `count ${count}, at most ${maxDataBytes}`);
  return { region: view.getUint32(regionAccessLayout.region, true), offset: readExact(view, regionAccessLayout.offset, 'offset', origin), count };
}

/** What a REGION_READ command asks for, and what a REGION_WRITE reply is about. */
export function readRegionPart(payload: Uint8Array): RegionPart {
  return readPart(payload);
}

/** A REGION_WRITE command, and a REGION_READ reply: part and data. */
export function readRegionData(payload: Uint8Array): RegionPart & { readonly data: Uint8Array } {
  const part = readPart(payload);
  return { ...part, data: dataAfter(payload, regionAccessLayout.sizeof, part.count, origin) };
}

/** REGION_WRITE_MULTI: writes of 1 to 8 bytes, in order. */
export function readWriteMulti(payload: Uint8Array): readonly (RegionPart & { readonly data: Uint8Array })[] {
  const view = payloadView(payload, writeMultiLayout.sizeof, origin);
  const writes = view.getBigUint64(writeMultiLayout.wr_cnt, true);
  const room = (payload.length - writeMultiLayout.sizeof) / writeMultiEntryLayout.sizeof;
  if (writes !== BigInt(Math.floor(room)) || !Number.isInteger(room)) throw protocolError(origin, writeMultiLayout.wr_cnt, `wr_cnt is ${writes}, there are ${room} writes`);
  return Array.from({ length: room }, (_, n) => {
    const at = writeMultiLayout.writes + n * writeMultiEntryLayout.sizeof;
    const count = view.getUint32(at + writeMultiEntryLayout.count, true);
    if (count < 1 || count > 8) throw protocolError(origin, at + writeMultiEntryLayout.count, `write ${n} is of ${count} bytes, 1 to 8 are taken`);
    const data = payload.subarray(at + writeMultiEntryLayout.data, at + writeMultiEntryLayout.data + count);
    return { region: view.getUint32(at + writeMultiEntryLayout.region, true), offset: readExact(view, at + writeMultiEntryLayout.offset, 'offset', origin), count, data };
  });
}

export function encodeWriteMulti(writes: readonly (Omit<RegionPart, 'count'> & { readonly data: Uint8Array })[]): Uint8Array {
  const { bytes, view } = struct(writeMultiLayout.sizeof, new Uint8Array(writes.length * writeMultiEntryLayout.sizeof));
  view.setBigUint64(writeMultiLayout.wr_cnt, BigInt(writes.length), true);
  writes.forEach(({ region, offset, data }, n) => {
    const at = writeMultiLayout.writes + n * writeMultiEntryLayout.sizeof;
    view.setBigUint64(at + writeMultiEntryLayout.offset, BigInt(offset), true);
    view.setUint32(at + writeMultiEntryLayout.region, region, true);
    view.setUint32(at + writeMultiEntryLayout.count, data.length, true);
    bytes.set(data, at + writeMultiEntryLayout.data);
  });
  return bytes;
}

/** The reply to REGION_WRITE_MULTI: how many were done. */
export function encodeWritesDone(count: number): Uint8Array {
  const { bytes, view } = struct(writeMultiLayout.sizeof);
  view.setBigUint64(writeMultiLayout.wr_cnt, BigInt(count), true);
  return bytes;
}
