import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { negotiate } from '../../../src/devices/protocol/negotiation.js';
import type { IrqInfo, RemapCapability } from '../../../src/devices/uapi/irq-info.js';
import type { RegionRemapCapability } from '../../../src/devices/uapi/remap-capability.js';
import { codeOf } from '../../support/devices.js';

const plainIrq = (index: number): IrqInfo => ({ index, flags: 1, count: 1, eventfd: true, maskable: true, automasked: false, noResize: true });
const remapIrq = (index: number, remap: RemapCapability): IrqInfo => ({ ...plainIrq(index), remap });
const row = (more: Partial<RegionRemapCapability> = {}): RegionRemapCapability => ({ subtype: 'region-remap', page: 0, doorbell: true, noAck: false, regions: 0b11n, ackTimeoutMs: 500, maxWaits: 2, ...more });

describe('negotiate', () => {
  it('calls a device without remap irqs static', () => {
    expect(negotiate([], 9, 'dev0')).toEqual({ profile: 'static' });
    expect(negotiate([plainIrq(0), plainIrq(4)], 9, 'dev0')).toEqual({ profile: 'static' });
  });

  it('finds the irq at whatever index, with its regions and bounds', () => {
    expect(negotiate([plainIrq(0), remapIrq(17, row())], 9, 'dev0')).toEqual({
      profile: 'region-remap',
      pages: [{ irqIndex: 17, page: 0, declared: new Set([0, 1]), ackTimeoutMs: 500, maxWaits: 2 }],
    });
  });

  it('numbers regions through the pages, and sorts these', () => {
    fc.assert(fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.integer({ min: 0, max: 3 }), (regions, page) => {
      const agreement = negotiate([remapIrq(5, row({ regions, page: page + 1 })), remapIrq(6, row({ page: 0 }))], 64 * 5, 'dev0');
      if (agreement.profile === 'static') throw new Error('no agreement');
      expect(agreement.pages.map(({ page: found }) => found)).toEqual([0, page + 1]);
      const declared = [...(agreement.pages[1]?.declared ?? [])];
      expect(declared.reduce((mask, region) => mask | (1n << BigInt(region - 64 * (page + 1))), 0n)).toBe(regions);
      expect(declared.every((region) => region >= 64 * (page + 1) && region < 64 * (page + 2))).toBe(true);
    }));
  });

  it('registers nothing where the driver contradicts itself', () => {
    expect(codeOf(() => negotiate([remapIrq(5, row()), remapIrq(6, row())], 9, 'dev0'))).toBe('VFIO_E_PROTOCOL');
    expect(() => negotiate([remapIrq(5, row({ regions: 1n << 9n }))], 9, 'dev0')).toThrow(/dev0: negotiate remap: irq 5 declares region 9, but the device has 9/);
    expect(negotiate([remapIrq(5, row({ regions: 1n << 8n }))], 9, 'dev0')).toMatchObject({ profile: 'region-remap' });
  });

  it('declines what it does not speak, by name', () => {
    const refused = (...irqs: readonly IrqInfo[]): string => {
      try {
        negotiate(irqs, 9, 'dev0');
      } catch (error) {
        return (error as Error).message;
      }
      return 'taken';
    };
    expect(refused(remapIrq(5, { subtype: 'rfc-v4' }))).toContain('irq 5 (rfc-v4)');
    expect(refused(remapIrq(5, row({ doorbell: false })))).toContain('irq 5 (region-remap, bitmap, value ack)');
    expect(refused(remapIrq(5, row({ noAck: true })))).toContain('irq 5 (region-remap, doorbell, no ack)');
    expect(refused(remapIrq(5, row()), remapIrq(6, row({ page: 1, doorbell: false, noAck: true })))).toContain('irq 6 (region-remap, bitmap, no ack)');
    expect(codeOf(() => negotiate([remapIrq(5, { subtype: 'rfc-v4' })], 9, 'dev0'))).toBe('VFIO_E_UNSUPPORTED');
  });

  it('prefers region-remap where the driver offers the proposal of 2020 as well', () => {
    expect(negotiate([remapIrq(5, { subtype: 'rfc-v4' }), remapIrq(6, row())], 9, 'dev0')).toMatchObject({ profile: 'region-remap', pages: [{ irqIndex: 6 }] });
  });
});
