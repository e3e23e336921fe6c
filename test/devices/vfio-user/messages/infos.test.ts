import { describe, expect, it } from 'vitest';
import { readDeviceInfo } from '../../../../src/devices/uapi/device-info.js';
import { readIrqInfo } from '../../../../src/devices/uapi/irq-info.js';
import { readRegionInfo } from '../../../../src/devices/uapi/region-info.js';
import { encodeDeviceInfo, encodeDeviceInfoQuery, encodeIrqInfo, encodeIrqInfoQuery, encodeNoIoFds, encodeRegionInfo, encodeRegionInfoQuery, readInfoQuery } from '../../../../src/devices/vfio-user/messages/infos.js';
import { survives } from '../../../support/vfio-user/hostile.js';

const region = {
  index: 1, flags: 7, size: 0x4000, fileOffset: 0x1000, type: { type: 3, subtype: 1 }, msixMappable: true,
  areas: [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }],
};

describe('the INFO messages', () => {
  it('are what the kernel’s readers read', () => {
    expect(readDeviceInfo(encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }))).toMatchObject({ flags: 3, regions: 9, irqs: 5, pci: true, reset: true });
    expect(readIrqInfo(encodeIrqInfo({ index: 2, flags: 9, count: 4 }), 2)).toMatchObject({ eventfd: true, noResize: true, count: 4 });
    const { areas, type, size, fileOffset } = region;
    expect(readRegionInfo(encodeRegionInfo(region, 4096), 1)).toMatchObject({ areas, type, size, fileOffset, msixMappable: true });
  });

  it('a remap irq travels with its chain, to who takes so much', () => {
    const remap = { subtype: 'region-remap', page: 1, doorbell: true, noAck: false, regions: 0b101n, ackTimeoutMs: 500, maxWaits: 2 } as const;
    const info = { index: 5, flags: 3, count: 1, remap };
    expect(readIrqInfo(encodeIrqInfo(info, 256), 5)).toMatchObject({ count: 1, remap });
    const short = encodeIrqInfo(info, 32);
    expect([short.length, new DataView(short.buffer).getUint32(0, true)]).toEqual([16, encodeIrqInfo(info, 256).length]);
    expect(encodeIrqInfo(info)).toEqual(short);
  });

  it('a region that does not fit is answered without its chain, and says what it needs: two areas are 80 bytes', () => {
    const { index, flags, size, areas } = region;
    const short = encodeRegionInfo({ index, flags, size, fileOffset: 0, areas, msixMappable: false }, 32);
    expect(short.length).toBe(32);
    const view = new DataView(short.buffer);
    expect([view.getUint32(0, true), view.getUint32(4, true), view.getUint32(12, true)]).toEqual([80, 7, 0]);
  });

  it('a region without anything to say has no chain', () => {
    expect(encodeRegionInfo({ index: 3, flags: 0, size: 0, fileOffset: 0, areas: [], msixMappable: false }, 32)).toHaveLength(32);
  });

  it('queries name what they ask for, and how much they take', () => {
    expect(readInfoQuery(encodeRegionInfoQuery({ index: 7, argsz: 80 }), 'x')).toEqual({ index: 7, argsz: 80 });
    expect(readInfoQuery(encodeIrqInfoQuery(4), 'x')).toEqual({ index: 4, argsz: 16 });
    expect(encodeDeviceInfoQuery().length).toBe(16);
    expect(readInfoQuery(encodeNoIoFds(2), 'x')).toEqual({ index: 2, argsz: 16 });
    for (const argsz of [0, 15, (1 << 20) + 1, 0xffff_ffff]) expect(() => readInfoQuery(encodeRegionInfoQuery({ index: 0, argsz }), 'x')).toThrow(/argsz/);
  });

  it('survive whatever comes', () => {
    const read = (bytes: Uint8Array): unknown => readInfoQuery(bytes, 'x');
    survives(read, [encodeRegionInfoQuery({ index: 7, argsz: 80 })]);
    survives((bytes) => readRegionInfo(bytes, 1), [encodeRegionInfo(region, 4096)]);
    survives((bytes) => readIrqInfo(bytes, 2), [encodeIrqInfo({ index: 2, flags: 9, count: 4 })]);
    survives((bytes) => readIrqInfo(bytes, 5), [encodeIrqInfo({ index: 5, flags: 3, count: 1, remap: { subtype: 'region-remap', page: 0, doorbell: false, noAck: false, regions: 3n, ackTimeoutMs: 1, maxWaits: 1 } }, 256)]);
    survives((bytes) => readDeviceInfo(bytes), [encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 })]);
  });
});
