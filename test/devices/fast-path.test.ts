import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FastPath } from '../../src/devices/fast-path.js';
import type { MappedPiece } from '../../src/devices/holders.js';

const rights = { readable: true, writable: true };

/** A piece at `offset` of the region; byte n of its memory holds n, beginning at `byteOffset`. */
function piece(offset: number, size: number, byteOffset = 0): MappedPiece {
  const memory = new ArrayBuffer(byteOffset + size);
  new Uint8Array(memory).forEach((_, n, bytes) => (bytes[n] = n & 0xff));
  return { region: 0, area: { offset, size }, memory, byteOffset };
}

describe('FastPath', () => {
  it('reads and writes little-endian, in every width', () => {
    const fast = new FastPath();
    fast.replace([piece(0x100, 32)], rights);
    expect([fast.read8(0x101), fast.read16(0x102), fast.read32(0x104), fast.read64(0x108)]).toEqual([1, 0x0302, 0x0706_0504, 0x0f0e_0d0c_0b0a_0908n]);
    expect([fast.write8(0x100, 0xff), fast.write16(0x102, 0xabcd), fast.write32(0x104, 0x8000_0001), fast.write64(0x108, 2n ** 64n - 2n)]).toEqual([true, true, true, true]);
    expect([fast.read8(0x100), fast.read16(0x102), fast.read32(0x104), fast.read64(0x108)]).toEqual([0xff, 0xabcd, 0x8000_0001, 2n ** 64n - 2n]);
  });

  it('answers nothing beyond the mapping, across its end, or not aligned', () => {
    const fast = new FastPath();
    fast.replace([piece(0x100, 16), piece(0x110, 6)], rights);
    for (const offset of [0xff, 0x116, -1, NaN, 0.5]) expect([fast.read8(offset), fast.write8(offset, 1)], `${offset}`).toEqual([undefined, false]);
    for (const offset of [0x101, 0x116, 0xfe]) expect([fast.read16(offset), fast.write16(offset, 1)]).toEqual([undefined, false]);
    for (const offset of [0x102, 0x114]) expect([fast.read32(offset), fast.write32(offset, 1)]).toEqual([undefined, false]);
    for (const offset of [0x104, 0x110]) expect([fast.read64(offset), fast.write64(offset, 1n)]).toEqual([undefined, false]);
    expect(fast.read32(0x110)).toBe(0x0302_0100);
  });

  it('leaves what may not be read or written to the trapped way', () => {
    const fast = new FastPath();
    fast.replace([piece(0, 16)], { readable: false, writable: true });
    expect([fast.read8(0), fast.read16(0), fast.read32(0), fast.read64(0), fast.write8(0, 1)]).toEqual([undefined, undefined, undefined, undefined, true]);
    fast.replace([piece(0, 16)], { readable: true, writable: false });
    expect([fast.write8(0, 1), fast.write16(0, 1), fast.write32(0, 1), fast.write64(0, 1n), fast.read8(1)]).toEqual([false, false, false, false, 1]);
  });

  it('after remove uses exactly what is left, also of the window used last', () => {
    const area = fc.record({ offset: fc.integer({ min: 0, max: 14 }).map((n) => n * 8), size: fc.integer({ min: 1, max: 6 }).map((n) => n * 8) });
    fc.assert(fc.property(fc.array(area, { maxLength: 4 }), fc.integer({ min: 0, max: 127 }), (gone, lastUsed) => {
      const fast = new FastPath();
      fast.replace([piece(0, 64, 8), piece(64, 64, 72)], rights);
      fast.read8(lastUsed);
      fast.remove(gone);
      for (let offset = 0; offset < 128; offset += 1) {
        const removed = gone.some((hole) => offset >= hole.offset && offset < hole.offset + hole.size);
        expect(fast.read8(offset)).toBe(removed ? undefined : 8 + offset);
      }
    }));
  });

  it('has nothing after clear', () => {
    const fast = new FastPath();
    fast.replace([piece(0, 16)], rights);
    fast.read8(0);
    fast.clear();
    expect(fast.read8(0)).toBeUndefined();
  });
});
