import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { readCapabilities } from '../../../src/devices/uapi/capabilities.js';
import { readRemapCapability } from '../../../src/devices/uapi/remap-capability.js';
import { caught, concat } from './bytes-helpers.js';
import { chain, irqType, remap, type CapabilityToWrite, type RemapToWrite } from './encoders.js';

const origin = { operation: 'VFIO_DEVICE_GET_IRQ_INFO(5)', device: 'sw0' };
const good: RemapToWrite = { page: 0, flags: 1, regions: 0b101n, ackTimeoutMs: 250, maxWaits: 1 };

function read(...capabilities: CapabilityToWrite[]) {
  const answer = concat([new Uint8Array(20), chain(20, capabilities)]);
  return readRemapCapability(readCapabilities(answer, { start: 20, fixedBytes: 20 }, origin), origin);
}
const refusal = (...capabilities: CapabilityToWrite[]): string => caught(() => read(...capabilities), 'VFIO_E_PROTOCOL').message;

describe('readRemapCapability', () => {
  it('knows the proposal of 2020 by its subtype', () => {
    expect(read(irqType(1, 0))).toEqual({ subtype: 'rfc-v4' });
  });

  it('reads region-remap, in either order of the two capabilities', () => {
    const expected = { subtype: 'region-remap', page: 0, doorbell: true, noAck: false, regions: 5n, ackTimeoutMs: 250, maxWaits: 1 };
    expect(read(irqType(1, 1), remap(good))).toEqual(expected);
    expect(read(remap(good), irqType(1, 1))).toEqual(expected);
  });

  it.each([
    [0, { doorbell: false, noAck: false }],
    [1, { doorbell: true, noAck: false }],
    [2, { doorbell: false, noAck: true }],
    [3, { doorbell: true, noAck: true }],
  ])('reads flags %d', (flags, expected) => {
    expect(read(irqType(1, 1), remap({ ...good, flags }))).toMatchObject(expected);
  });

  it('is no remap irq where type, subtype or a version is unknown, or the type is missing', () => {
    expect(read(irqType(2, 1), remap(good))).toBeUndefined();
    expect(read(irqType(1, 2), remap(good))).toBeUndefined();
    expect(read(irqType(1, 1, 2), remap(good))).toBeUndefined();
    expect(read(irqType(1, 1), remap(good, 2))).toBeUndefined();
    expect(read(remap(good))).toBeUndefined();
  });

  it('RR-1: refuses the type without the remap capability', () => {
    expect(refusal(irqType(1, 1))).toContain('at byte 20 of the answer: the type says region-remap, but the remap capability is missing (RR-1)');
  });

  it.each([
    ['at byte 48 of the answer: unknown remap flags 0x4', { flags: 5 }],
    ['unknown remap flags 0x80000000', { flags: 0x8000_0001 }],
    ['at byte 60 of the answer: ack_timeout_ms is 0', { ackTimeoutMs: 0 }],
    ['at byte 64 of the answer: max_waits is 0', { maxWaits: 0 }],
  ])('RR-4: refuses: %s', (message, wrong) => {
    expect(refusal(irqType(1, 1), remap({ ...good, ...wrong }))).toContain(message);
  });

  it('refuses structs that are cut off', () => {
    const cut = ({ id, payload }: CapabilityToWrite): CapabilityToWrite => ({ id, payload: payload.slice(0, -4) });
    expect(refusal(cut(irqType(1, 1)))).toContain('capability 3 is cut off: 12 of 16 bytes');
    expect(refusal(irqType(1, 1), cut(remap(good)))).toContain('capability 65281 is cut off: 28 of 32 bytes');
  });

  it('gives back whatever a driver may say', () => {
    const u32 = fc.nat({ max: 0xffff_ffff });
    const positive = fc.integer({ min: 1, max: 0xffff_ffff });
    const legal = fc.record({ page: u32, flags: fc.nat(3), regions: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), ackTimeoutMs: positive, maxWaits: positive });
    fc.assert(
      fc.property(legal, ({ flags, ...rest }) => {
        const expected = { subtype: 'region-remap', ...rest, doorbell: (flags & 1) !== 0, noAck: (flags & 2) !== 0 };
        expect(read(irqType(1, 1), remap({ flags, ...rest }))).toEqual(expected);
      }),
    );
  });
});
