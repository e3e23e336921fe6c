import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { encodeIrqDisable, encodeIrqSet, type IrqAction, type IrqSet } from '../../../src/devices/uapi/irq-set.js';
import { caught, hex } from './bytes-helpers.js';

const actionFlags: Record<IrqAction, string> = { mask: '08', unmask: '10', trigger: '20' };

describe('encodeIrqSet', () => {
  it.each(['mask', 'unmask', 'trigger'] as const)('writes %s with every kind of data', (action) => {
    const flags = (data: number) => `${(Number.parseInt(actionFlags[action], 16) | data).toString(16).padStart(2, '0')} 00 00 00`;
    expect(encodeIrqSet({ index: 2, action, data: 'none', start: 1, count: 3 })).toEqual(
      hex(`14 00 00 00  ${flags(1)}  02 00 00 00  01 00 00 00  03 00 00 00`),
    );
    expect(encodeIrqSet({ index: 2, action, data: 'bool', start: 1, vectors: [true, false, true] })).toEqual(
      hex(`17 00 00 00  ${flags(2)}  02 00 00 00  01 00 00 00  03 00 00 00  01 00 01`),
    );
    expect(encodeIrqSet({ index: 2, action, data: 'eventfd', fds: [17, -1] })).toEqual(
      hex(`1c 00 00 00  ${flags(4)}  02 00 00 00  00 00 00 00  02 00 00 00  11 00 00 00  ff ff ff ff`),
    );
  });

  it('disables a whole index', () => {
    expect(encodeIrqDisable(5)).toEqual(hex('14 00 00 00  21 00 00 00  05 00 00 00  00 00 00 00  00 00 00 00'));
  });

  it.each<[string, IrqSet]>([
    ['an irq index', { index: -1, action: 'trigger', data: 'none', count: 0 }],
    ['an irq index', { index: 2 ** 32, action: 'trigger', data: 'none', count: 0 }],
    ['the first vector', { index: 0, action: 'trigger', data: 'none', start: 0.5, count: 0 }],
    ['the number of vectors', { index: 0, action: 'trigger', data: 'none', count: -1 }],
    ['the last vector', { index: 0, action: 'trigger', data: 'none', start: 0xffff_ffff, count: 1 }],
    ['at most 65536', { index: 0, action: 'trigger', data: 'none', count: 65_537 }],
    ['no vectors given', { index: 0, action: 'trigger', data: 'bool', vectors: [] }],
    ['no vectors given', { index: 0, action: 'trigger', data: 'eventfd', fds: [] }],
    ['-2 is neither', { index: 0, action: 'trigger', data: 'eventfd', fds: [-2] }],
    ['2147483648 is neither', { index: 0, action: 'trigger', data: 'eventfd', fds: [2 ** 31] }],
    ['0.5 is neither', { index: 0, action: 'trigger', data: 'eventfd', fds: [0.5] }],
  ])('refuses: %s', (message, set) => {
    const error = caught(() => encodeIrqSet(set, 'sw0'), 'VFIO_E_RANGE');
    expect(error).toMatchObject({ operation: `VFIO_DEVICE_SET_IRQS(${set.index})`, device: 'sw0' });
    expect(error.message).toContain(message);
  });

  it('can be read back', () => {
    const common = { index: fc.nat({ max: 0xffff_ffff }), action: fc.constantFrom<IrqAction>('mask', 'unmask', 'trigger'), start: fc.nat(100_000) };
    const set = fc.oneof(
      fc.record({ ...common, data: fc.constant('none' as const), count: fc.nat(65_536) }),
      fc.record({ ...common, data: fc.constant('bool' as const), vectors: fc.array(fc.boolean(), { minLength: 1 }) }),
      fc.record({ ...common, data: fc.constant('eventfd' as const), fds: fc.array(fc.integer({ min: -1 }), { minLength: 1 }) }),
    );
    fc.assert(
      fc.property(set, (original) => {
        expect(decode(encodeIrqSet(original))).toEqual(original);
      }),
    );
  });
});

/** As the kernel reads it. */
function decode(bytes: Uint8Array): IrqSet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [argsz, flags, index, start, count] = [0, 4, 8, 12, 16].map((at) => view.getUint32(at, true)) as [number, number, number, number, number];
  expect(argsz).toBe(bytes.length);
  const action = ({ 8: 'mask', 16: 'unmask', 32: 'trigger' } as const)[flags & 0x38];
  if (action === undefined) throw new Error(`flags ${flags}`);
  const vectors = Array.from({ length: count }, (_, i) => i);
  switch (flags & 7) {
    case 1:
      return { index, action, start, data: 'none', count };
    case 2:
      return { index, action, start, data: 'bool', vectors: vectors.map((i) => bytes[20 + i] === 1) };
    default:
      return { index, action, start, data: 'eventfd', fds: vectors.map((i) => view.getInt32(20 + 4 * i, true)) };
  }
}
