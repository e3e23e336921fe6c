import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { withArgsz } from '../../../src/devices/uapi/argsz.js';
import { caught } from './bytes-helpers.js';

/** A kernel whose answer takes `needs` bytes, and which remembers how large the buffers were. */
function kernel(...needs: number[]): { call: (buffer: Uint8Array) => void; sizes: number[] } {
  const sizes: number[] = [];
  return {
    sizes,
    call(buffer) {
      const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
      expect(view.getUint32(0, true)).toBe(buffer.length);
      expect(buffer.subarray(4).every((byte) => byte === 0)).toBe(true);
      const need = needs[Math.min(sizes.length, needs.length - 1)] ?? 0;
      sizes.push(buffer.length);
      view.setUint32(0, need, true);
      if (need <= buffer.length) buffer.fill(0xaa, 4, need);
    },
  };
}

describe('withArgsz', () => {
  it('asks once where the answer fits', () => {
    const { call, sizes } = kernel(16);
    const answer = withArgsz(32, 65_536, 'OP', call);
    expect(sizes).toEqual([32]);
    expect([...answer.subarray(0, 6)]).toEqual([16, 0, 0, 0, 0xaa, 0xaa]);
  });

  it('asks again with what the answer needs', () => {
    const { call, sizes } = kernel(80);
    expect(withArgsz(32, 65_536, 'OP', call)).toHaveLength(80);
    expect(sizes).toEqual([32, 80]);
  });

  it('follows an answer that grows between two asks', () => {
    const { call, sizes } = kernel(80, 96, 96);
    expect(withArgsz(32, 65_536, 'OP', call)).toHaveLength(96);
    expect(sizes).toEqual([32, 80, 96]);
  });

  it('takes an answer of exactly the bound and refuses one byte more, without asking for it', () => {
    expect(withArgsz(32, 100, 'OP', kernel(100).call)).toHaveLength(100);
    const { call, sizes } = kernel(101);
    const error = caught(() => withArgsz(32, 100, 'OP', call, 'sw0'), 'VFIO_E_PROTOCOL');
    expect(error).toMatchObject({ operation: 'OP', device: 'sw0' });
    expect(error.message).toContain('101 bytes, the bound is 100');
    expect(sizes).toEqual([32]);
  });

  it('gives up on an answer that grows for ever', () => {
    let asked = 0;
    const call = (buffer: Uint8Array): void => {
      asked += 1;
      new DataView(buffer.buffer).setUint32(0, buffer.length + 4, true);
    };
    expect(caught(() => withArgsz(32, 65_536, 'OP', call), 'VFIO_E_PROTOCOL').message).toContain('grew 8 times');
    expect(asked).toBe(8);
  });

  it('lets what the ioctl throws through', () => {
    const failure = new Error('ENODEV');
    expect(() => withArgsz(32, 64, 'OP', () => { throw failure; })).toThrow(failure);
  });

  it.each([0, 3, 65, Number.NaN])('refuses to begin with %d bytes', (initial) => {
    caught(() => withArgsz(initial, 64, 'OP', () => undefined), 'VFIO_E_RANGE');
  });

  it('always ends: with an answer inside the bound, or with a typed error', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.nat(200), fc.nat({ max: 0xffff_ffff })), { minLength: 1, maxLength: 12 }), (needs) => {
        const { call, sizes } = kernel(...needs);
        try {
          const answer = withArgsz(8, 160, 'OP', call);
          expect(new DataView(answer.buffer).getUint32(0, true)).toBeLessThanOrEqual(answer.length);
        } catch (error) {
          expect(error).toMatchObject({ code: 'VFIO_E_PROTOCOL' });
        }
        expect(sizes.length).toBeLessThanOrEqual(8);
        expect(Math.max(...sizes)).toBeLessThanOrEqual(160);
      }),
    );
  });
});
