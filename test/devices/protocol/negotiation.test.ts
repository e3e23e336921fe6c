import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { negotiate, offersRfcV4, type RemapAgreement, type RemapOffer, type RemapWishes } from '../../../src/devices/protocol/negotiation.js';
import type { IrqInfo, RemapCapability } from '../../../src/devices/uapi/irq-info.js';
import type { RegionInfo } from '../../../src/devices/uapi/region-info.js';
import type { RegionRemapCapability } from '../../../src/devices/uapi/remap-capability.js';
import { codeOf } from '../../support/devices.js';

const plainIrq = (index: number): IrqInfo => ({ index, flags: 1, count: 1, eventfd: true, maskable: true, automasked: false, noResize: true });
const remapIrq = (index: number, remap: RemapCapability): IrqInfo => ({ ...plainIrq(index), remap });
const row = (more: Partial<RegionRemapCapability> = {}): RegionRemapCapability => ({ subtype: 'region-remap', page: 0, doorbell: true, noAck: false, regions: 0b11n, ackTimeoutMs: 500, maxWaits: 2, ...more });
const rfc: RemapCapability = { subtype: 'rfc-v4' };
const region = (index: number, more: Partial<RegionInfo> = {}): RegionInfo => ({ index, flags: 7, readable: true, writable: true, mmappable: true, size: 4096, fileOffset: 0, areas: [], msixMappable: false, ...more });
const offer = (irqs: readonly IrqInfo[], more: Partial<RemapOffer> = {}): RemapOffer => ({ irqs, regions: [region(0), region(1), region(7)], regionCount: 9, ...more });
const agreed = (irqs: readonly IrqInfo[], more: Partial<RemapOffer> = {}, wishes?: RemapWishes): RemapAgreement => negotiate(offer(irqs, more), 'dev0', wishes);
const saving = { regions: [region(0), region(2, { savingAreas: [] }), region(3, { savingAreas: [{ offset: 0, size: 4096 }] })] };

describe('negotiate', () => {
  it('calls a device without remap irqs static', () => {
    expect(agreed([])).toEqual({ profile: 'static' });
    expect(agreed([plainIrq(0), plainIrq(4)])).toEqual({ profile: 'static' });
  });

  it('finds the irq at whatever index, with its regions and bounds, in each of its four forms', () => {
    for (const [doorbell, signals] of [[true, 'doorbell'], [false, 'bitmap']] as const) {
      for (const [noAck, ack] of [[false, 'value'], [true, 'none']] as const) {
        expect(agreed([plainIrq(0), remapIrq(17, row({ doorbell, noAck }))])).toEqual({
          profile: 'region-remap',
          pages: [{ irqIndex: 17, page: 0, declared: new Set([0, 1]), signals, ack, ackTimeoutMs: 500, maxWaits: 2 }],
        });
      }
    }
  });

  it('numbers regions through the pages, and sorts these', () => {
    fc.assert(fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.integer({ min: 0, max: 3 }), (regions, page) => {
      const agreement = agreed([remapIrq(5, row({ regions, page: page + 1 })), remapIrq(6, row({ page: 0 }))], { regionCount: 64 * 5 });
      if (!('pages' in agreement)) throw new Error('no agreement');
      expect(agreement.pages.map(({ page: found }) => found)).toEqual([0, page + 1]);
      const declared = [...(agreement.pages[1]?.declared ?? [])];
      expect(declared.reduce((mask, index) => mask | (1n << BigInt(index - 64 * (page + 1))), 0n)).toBe(regions);
      expect(declared.every((index) => index >= 64 * (page + 1) && index < 64 * (page + 2))).toBe(true);
    }));
  });

  it('registers nothing where the driver contradicts itself', () => {
    expect(codeOf(() => agreed([remapIrq(5, row()), remapIrq(6, row())]))).toBe('VFIO_E_PROTOCOL');
    expect(() => agreed([remapIrq(5, rfc), remapIrq(6, rfc)])).toThrow(/two remap irqs claim page 0; nothing was registered/);
    expect(() => agreed([remapIrq(5, row({ regions: 1n << 9n }))])).toThrow(/dev0: negotiate remap: irq 5 declares region 9, but the device has 9/);
    expect(agreed([remapIrq(5, row({ regions: 1n << 8n }))])).toMatchObject({ profile: 'region-remap' });
  });

  it('takes the proposal of 2020 for a doorbell about the BARs that are there', () => {
    const regions = [region(0), region(2), region(4, { size: 0 }), region(5), region(6), region(7)];
    const page = { irqIndex: 5, page: 0, declared: new Set([0, 2, 5]), signals: 'doorbell', ackTimeoutMs: undefined, maxWaits: 1 };
    expect(agreed([remapIrq(5, rfc)], { regions })).toEqual({ profile: 'rfc-v4', pages: [{ ...page, ack: 'write-zero' }] });
    expect(agreed([remapIrq(5, rfc)], { regions }, { rfcAck: 'write-one' })).toEqual({ profile: 'rfc-v4', pages: [{ ...page, ack: 'write-one' }] });
  });

  it('knows the regions that have a saving layout, also an empty one', () => {
    expect(agreed([plainIrq(0)], saving)).toEqual({ profile: 'saving-layout', regions: new Set([2, 3]) });
  });

  it('prefers region-remap, then the proposal of 2020; the caller may choose among what there is', () => {
    const both = [remapIrq(5, rfc), remapIrq(6, row())];
    const of = (irqs: readonly IrqInfo[], prefer?: RemapWishes['prefer']): string => agreed(irqs, saving, prefer === undefined ? {} : { prefer }).profile;
    expect(agreed(both)).toMatchObject({ profile: 'region-remap', pages: [{ irqIndex: 6 }] });
    expect([of(both), of(both, 'rfc-v4'), of(both, 'saving-layout')]).toEqual(['region-remap', 'rfc-v4', 'saving-layout']);
    expect([of([remapIrq(5, rfc)]), of([remapIrq(5, rfc)], 'region-remap'), of([], 'region-remap')]).toEqual(['rfc-v4', 'rfc-v4', 'saving-layout']);
  });

  it('does not mind the faults of a form that is not spoken', () => {
    expect(agreed([remapIrq(4, rfc), remapIrq(5, rfc), remapIrq(6, row())])).toMatchObject({ profile: 'region-remap' });
  });
});

describe('offersRfcV4', () => {
  it('looks for the form of 2020 alone', () => {
    expect([offersRfcV4([plainIrq(0)]), offersRfcV4([remapIrq(5, row())]), offersRfcV4([plainIrq(0), remapIrq(5, rfc)])]).toEqual([false, false, true]);
  });
});
