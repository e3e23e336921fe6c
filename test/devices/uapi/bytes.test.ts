import { describe, expect, it } from 'vitest';

import { answerView, protocolError, readExact, requireU32, viewOf } from '../../../src/devices/uapi/bytes.js';
import { caught, hex } from './bytes-helpers.js';

const origin = { operation: 'VFIO_DEVICE_GET_INFO', device: 'sw0' };

describe('protocolError', () => {
  it('names device, operation and byte', () => {
    const error = protocolError(origin, 16, 'nonsense');
    expect(error).toMatchObject({ code: 'VFIO_E_PROTOCOL', operation: 'VFIO_DEVICE_GET_INFO', device: 'sw0' });
    expect(error.message).toContain('sw0: VFIO_DEVICE_GET_INFO: at byte 16 of the answer: nonsense');
  });
});

describe('answerView', () => {
  it('covers what argsz says, not the whole buffer', () => {
    const view = answerView(hex('08 00 00 00  01 00 00 00  ff ff ff ff'), 8, origin);
    expect(view.byteLength).toBe(8);
    expect(view.getUint32(4, true)).toBe(1);
  });

  it('refuses an answer shorter than the struct', () => {
    expect(caught(() => answerView(hex('08 00 00'), 8, origin), 'VFIO_E_PROTOCOL').message).toContain('cut off: 3 of at least 8 bytes');
  });

  it('refuses an argsz below the struct', () => {
    expect(caught(() => answerView(hex('07 00 00 00 00 00 00 00'), 8, origin), 'VFIO_E_PROTOCOL').message).toContain('argsz 7');
  });

  it('refuses an argsz beyond the buffer', () => {
    expect(caught(() => answerView(hex('09 00 00 00 00 00 00 00'), 8, origin), 'VFIO_E_PROTOCOL').message).toContain('argsz 9');
  });
});

describe('readExact', () => {
  it('reads up to 2^53 - 1', () => {
    expect(readExact(viewOf(hex('ff ff ff ff ff ff 1f 00')), 0, 'size', origin)).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('refuses 2^53, and names the byte in the answer', () => {
    const error = caught(() => readExact(viewOf(hex('00 00 00 00 00 00 20 00')), 0, 'size', origin, 40), 'VFIO_E_PROTOCOL');
    expect(error.message).toContain('at byte 40');
    expect(error.message).toContain('size 0x20000000000000');
  });
});

describe('requireU32', () => {
  it.each([0, 1, 0xffff_ffff])('takes %d', (value) => {
    expect(() => requireU32(value, 'an index', origin)).not.toThrow();
  });

  it.each([-1, 0.5, 2 ** 32, Number.NaN, Infinity])('refuses %d', (value) => {
    expect(caught(() => requireU32(value, 'an index', origin), 'VFIO_E_RANGE').message).toContain('an index');
  });
});
