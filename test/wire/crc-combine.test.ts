import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CrcCombiner } from '../../src/wire/crc-combine.js';

describe('two checksums', () => {
  it('make that of all bytes, whatever the pieces', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }), (pieces) => {
      const combiner = new CrcCombiner();
      const crc = pieces.reduce((sum, piece) => combiner.combine(sum, crc32(piece), piece.length), 0);
      expect(crc).toBe(crc32(Buffer.concat(pieces)));
    }));
  });

  it('also where a piece is long', () => {
    const pieces = [3, 1 << 20, 1 << 20, 0, (1 << 22) + 1].map((length, n) => new Uint8Array(length).fill(n + 1));
    const combiner = new CrcCombiner();
    const crc = pieces.reduce((sum, piece) => combiner.combine(sum, crc32(piece), piece.length), 0);
    expect(crc).toBe(crc32(Buffer.concat(pieces)));
  });
});
