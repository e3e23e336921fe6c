import { describe, expect, it } from 'vitest';
import { configImage, vendorCapability } from '../../../src/devices/authored/config-image.js';
import { shapeOfPciDevice } from '../../../src/devices/authored/description.js';
import { readPciConfig } from '../../../src/devices/protocol/pci-config.js';
import { codeOf } from '../../support/devices.js';
import { sample } from './sample.js';

describe('the image of configuration space', () => {
  it('is what a reader of PCI understands', () => {
    const { bytes } = configImage(shapeOfPciDevice({ ...sample, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 }, capabilities: [vendorCapability(Uint8Array.of(1, 2, 3))] }));
    expect(readPciConfig(bytes)).toMatchObject({
      vendorId: 0x1234, deviceId: 0x5678, revision: 2, classCode: 0xff_00_01, kind: 'endpoint', interruptPin: 1, subsystem: { vendorId: 0x1af4, deviceId: 0x1100 },
      capabilities: [{ id: 0x09, offset: 0x40 }, { id: 0x05, offset: 0x48 }, { id: 0x11, offset: 0x58 }],
    });
    // A vendor's own: id, pointer, length, body.
    expect([...bytes.subarray(0x40, 0x46)]).toEqual([0x09, 0x48, 6, 1, 2, 3]);
    // MSI of four vectors and 64 bits; MSI-X of three, with their table and pending bits.
    expect(bytes[0x4a]).toBe(0x84);
    const view = new DataView(bytes.buffer);
    expect([view.getUint16(0x5a, true), view.getUint32(0x5c, true), view.getUint32(0x60, true)]).toEqual([2, 0x800, 0x830]);
  });

  it('without irqs and capabilities says so', () => {
    const { bytes, msi, msix } = configImage(shapeOfPciDevice({ ...sample, interrupts: {} }));
    expect([readPciConfig(bytes).interruptPin, readPciConfig(bytes).capabilities, msi, msix]).toEqual([0, [], undefined, undefined]);
  });

  it('is refused where the capabilities do not fit', () => {
    const capabilities = [vendorCapability(new Uint8Array(190))];
    expect(codeOf(() => configImage(shapeOfPciDevice({ ...sample, capabilities })))).toBe('VFIO_E_RANGE');
  });
});
