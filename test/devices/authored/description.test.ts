import { describe, expect, it } from 'vitest';
import { shapeOfPciDevice, type PciDeviceDescription } from '../../../src/devices/authored/description.js';
import { codeOf } from '../../support/devices.js';
import { sample } from './sample.js';

describe('the description of a PCI device', () => {
  it('is named by its ids where it has no name', () => {
    expect(shapeOfPciDevice({ ...sample, vendorId: 0x1b36, deviceId: 2 }).name).toBe('1b36:0002');
    expect(shapeOfPciDevice({ ...sample, name: 'own' }).name).toBe('own');
  });

  it('says where table and pending bits of MSI-X end', () => {
    expect(shapeOfPciDevice(sample).msix).toEqual({ vectors: 3, bar: 0, offset: 0x800, pba: 0x830, end: 0x838 });
    expect(shapeOfPciDevice({ ...sample, interrupts: {} }).msix).toBeUndefined();
  });

  const wrong: Readonly<Record<string, Partial<PciDeviceDescription>>> = {
    'an id of 17 bits': { deviceId: 0x1_0000 },
    'no vendor': { vendorId: 0xffff },
    'a class of 25 bits': { classCode: 0x100_0000 },
    'a revision of 9 bits': { revision: 256 },
    'a seventh BAR': { bars: [{ index: 6, kind: 'memory', size: 4096 }] },
    'a BAR twice': { bars: [{ index: 0, kind: 'memory', size: 0x1000 }, { index: 0, kind: 'io', size: 8 }] },
    'a BAR of 24 bytes': { bars: [{ index: 1, kind: 'io', size: 24 }] },
    'a BAR of 8 bytes of memory': { bars: [{ index: 1, kind: 'memory', size: 8 }] },
    'three vectors of MSI': { interrupts: { msi: 3 } },
    'no vectors of MSI-X': { interrupts: { msix: { vectors: 0, bar: 0 } } },
    'a table that is not aligned': { interrupts: { msix: { vectors: 1, bar: 0, offset: 4 } } },
    'a table in an I/O BAR': { interrupts: { msix: { vectors: 1, bar: 2 } } },
    'a table that is larger than its BAR': { interrupts: { msix: { vectors: 256, bar: 0 } } },
  };
  for (const [what, part] of Object.entries(wrong)) {
    it(`is refused with ${what}`, () => expect(codeOf(() => shapeOfPciDevice({ ...sample, ...part }))).toBe('VFIO_E_RANGE'));
  }
});
