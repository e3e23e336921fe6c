import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesOf, piecesOf, valueOf } from '../../../src/devices/authored/access.js';

describe('an access as registers see it', () => {
  it('is split where it is longer than a register, or not aligned', () => {
    expect([...piecesOf(1, 8)]).toEqual([{ offset: 1, size: 1 }, { offset: 2, size: 2 }, { offset: 4, size: 4 }, { offset: 8, size: 1 }]);
  });

  it('covers each byte once, in order, in aligned pieces', () => {
    fc.assert(fc.property(fc.nat(100), fc.integer({ min: 1, max: 100 }), (offset, bytes) => {
      let at = offset;
      for (const piece of piecesOf(offset, bytes)) {
        expect([piece.offset, piece.offset % piece.size]).toEqual([at, 0]);
        at += piece.size;
      }
      expect(at).toBe(offset + bytes);
    }));
  });

  it('has unsigned little-endian values', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }), (bytes) => {
      expect(valueOf(bytes)).toBeGreaterThanOrEqual(0);
      expect(bytesOf(valueOf(bytes), bytes.length)).toEqual(bytes);
    }));
    expect([...bytesOf(-1, 2)]).toEqual([0xff, 0xff]);
  });
});
