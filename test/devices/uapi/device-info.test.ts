import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { queryDeviceInfo, readDeviceInfo } from '../../../src/devices/uapi/device-info.js';
import { caught, fields, hex, survivesAnyBytes } from './bytes-helpers.js';

const pci = hex(`
  18 00 00 00   # argsz 24
  03 00 00 00   # RESET | PCI
  09 00 00 00   # num_regions
  05 00 00 00   # num_irqs
  00 00 00 00   # cap_offset
  00 00 00 00`);

describe('readDeviceInfo', () => {
  it('reads a PCI device byte by byte', () => {
    expect(readDeviceInfo(pci)).toEqual({ flags: 3, regions: 9, irqs: 5, pci: true, reset: true });
  });

  it('reads the 16 bytes of a kernel without capabilities', () => {
    const bytes = hex('10 00 00 00  00 00 00 00  01 00 00 00  02 00 00 00');
    expect(readDeviceInfo(bytes)).toEqual({ flags: 0, regions: 1, irqs: 2, pci: false, reset: false });
  });

  it('refuses an answer that is cut off', () => {
    expect(caught(() => readDeviceInfo(pci.subarray(0, 15), 'sw0'), 'VFIO_E_PROTOCOL').message).toContain('sw0: VFIO_DEVICE_GET_INFO: at byte 15');
  });

  it.each([['regions', 8], ['irqs', 12]])('refuses 4097 %s', (what, at) => {
    const bytes = pci.slice();
    new DataView(bytes.buffer).setUint32(at, 4096, true);
    expect(readDeviceInfo(bytes)).toMatchObject({ [what]: 4096 });
    new DataView(bytes.buffer).setUint32(at, 4097, true);
    expect(caught(() => readDeviceInfo(bytes), 'VFIO_E_PROTOCOL').message).toContain(`at byte ${at} of the answer: 4097 ${what}`);
  });

  it('survives any bytes', () => {
    const count = fc.nat(5000);
    survivesAnyBytes(readDeviceInfo, fc.tuple(fc.nat(0xff), count, count).map(([flags, regions, irqs]) =>
      fields(['u32', 24], ['u32', flags], ['u32', regions], ['u32', irqs], ['u64', 0])));
  });
});

describe('queryDeviceInfo', () => {
  it('asks and reads', () => {
    expect(queryDeviceInfo((buffer) => buffer.set(pci))).toMatchObject({ regions: 9 });
  });
});
