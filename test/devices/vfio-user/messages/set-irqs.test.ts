import { describe, expect, it } from 'vitest';
import { encodeUserIrqSet, readUserIrqSet, type UserIrqSet } from '../../../../src/devices/vfio-user/messages/set-irqs.js';
import { survives } from '../../../support/vfio-user/hostile.js';

const sets: readonly UserIrqSet[] = [
  { index: 0, action: 'trigger', start: 0, count: 0, data: 'none' },
  { index: 2, action: 'unmask', start: 1, count: 3, data: 'none' },
  { index: 1, action: 'trigger', start: 0, count: 3, data: 'bool', vectors: [true, false, true] },
  { index: 1, action: 'trigger', start: 0, count: 2, data: 'eventfd' },
];

describe('DEVICE_SET_IRQS', () => {
  it('stands at the offsets of the protocol', () => {
    expect(Buffer.from(encodeUserIrqSet({ index: 1, action: 'trigger', start: 2, count: 3, data: 'eventfd' })).toString('hex')).toBe('14000000' + '24000000' + '01000000' + '02000000' + '03000000');
    expect(Buffer.from(encodeUserIrqSet({ index: 0, action: 'trigger', start: 0, count: 2, data: 'bool', vectors: [true, false] })).toString('hex')).toBe('16000000' + '22000000' + '00000000' + '00000000' + '02000000' + '0100');
  });

  it('is read back as it was written', () => {
    for (const set of sets) expect(readUserIrqSet(encodeUserIrqSet(set), 0)).toEqual(set);
  });

  it('takes as many eventfds as vectors, or none', () => {
    const bytes = encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 2, data: 'eventfd' });
    expect(readUserIrqSet(bytes, 2)).toMatchObject({ data: 'eventfd', count: 2 });
    expect(() => readUserIrqSet(bytes, 1)).toThrow(/1 eventfds for 2 vectors/);
    expect(() => readUserIrqSet(encodeUserIrqSet({ index: 0, action: 'mask', start: 0, count: 1, data: 'none' }), 1)).toThrow(/takes none/);
  });

  it.each([0, 0x01, 0x20, 0x31, 0x23, 0x27, 0x121])('refuses flags 0x%s, which are not one action with one kind of data', (flags) => {
    const bytes = encodeUserIrqSet({ index: 0, action: 'trigger', start: 0, count: 1, data: 'none' });
    new DataView(bytes.buffer).setUint32(4, flags, true);
    expect(() => readUserIrqSet(bytes, 0)).toThrow(/not one action/);
  });

  it('refuses no vectors, and more than any device has', () => {
    for (const [start, count] of [[0, 0], [0, 0x1_0001], [0xffff_ffff, 1]] as const) {
      expect(() => readUserIrqSet(encodeUserIrqSet({ index: 0, action: 'mask', start, count, data: 'none' }), 0)).toThrow(expect.objectContaining({ code: 'VFIO_E_PROTOCOL' }));
    }
  });

  it('survives whatever comes', () => {
    for (const fds of [0, 2]) survives((bytes) => readUserIrqSet(bytes, fds), sets.map(encodeUserIrqSet));
  });
});
