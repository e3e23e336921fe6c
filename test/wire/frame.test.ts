import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { encodeHeader, frameTypes, HeaderRoom, nextSequence, readHeader } from '../../src/wire/frame.js';

const payload = Uint8Array.of(1, 2, 3);

/** A header with one field made otherwise, and a checksum that fits: what a hostile peer sends. */
function forged(change: (view: DataView) => void, type: 'data' | 'credit' = 'data'): Uint8Array {
  const header = encodeHeader({ type, device: 7, payload: type === 'data' ? payload : new Uint8Array(4) }, 5);
  const view = new DataView(header.buffer);
  change(view);
  view.setUint32(16, crc32(header.subarray(0, 16)), true);
  return header;
}

describe('the header of a frame', () => {
  it('is these bytes: the format may not change by itself', () => {
    const header = encodeHeader({ type: 'data', device: 0x0102, payload }, 0x0a0b0c0d);
    expect(Buffer.from(header).toString('hex')).toBe(`03000000030002010d0c0b0a1d80bc55${Buffer.from(header.subarray(16)).toString('hex')}`);
    expect(readHeader(new HeaderRoom(header), 0x0a0b0c0d)).toEqual({ type: 'data', device: 0x0102, length: 3, payloadCrc: crc32(payload) });
    expect(frameTypes).toEqual(['hello', 'welcome', 'data', 'credit', 'end', 'switch-over', 'switch-over-ok', 'prepared', 'commit', 'confirmed', 'abort', 'never-ran']);
  });

  it.each([
    ['a type that is none', (view: DataView) => view.setUint8(4, 99), 'of type 99'],
    ['a byte that is not 0', (view: DataView) => view.setUint8(5, 1), 'does not know'],
    ['another sequence', (view: DataView) => view.setUint32(8, 6, true), 'frame 6 (data) came where frame 5 was due'],
    ['4 GiB', (view: DataView) => view.setUint32(0, 0xffff_ffff, true), 'announces 4294967295 bytes'],
    ['no data', (view: DataView) => view.setUint32(0, 0, true), 'announces 0 bytes'],
  ])('is refused with %s', (_, change, why) => {
    expect(() => readHeader(new HeaderRoom(forged(change)), 5)).toThrow(why);
  });

  it('is refused where its type has a size and it announces another', () => {
    expect(() => readHeader(new HeaderRoom(forged((view) => view.setUint32(0, 5, true), 'credit')), 5)).toThrow('between 4 and 4');
  });

  it('counts round', () => {
    expect([nextSequence(0), nextSequence(0xffff_ffff)]).toEqual([1, 0]);
  });
});
