import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readPciConfig } from '../../../src/devices/protocol/pci-config.js';
import { VfioError } from '../../../src/errors.js';
import { caught } from '../uapi/bytes-helpers.js';
import { pciSpace } from './pci-space.js';

/** An Intel 82574L as a machine shows it: four BARs, MSI, MSI-X, and an extended list. */
function e1000e(): Uint8Array {
  const config = pciSpace({ capabilities: [[0x01, 0xc8], [0x05, 0xd0], [0x10, 0xe0], [0x11, 0xa0]], extended: [[0x01, 0x100], [0x03, 0x140]] });
  const view = new DataView(config.buffer);
  view.setUint16(4, 0x0406, true);
  view.setUint32(8, 0x0200_0003, true);
  view.setUint32(0x10, 0xfeb4_0000, true);
  view.setUint32(0x14, 0xfeb6_000c, true);
  view.setUint32(0x18, 0x0000_0010, true);
  view.setUint32(0x1c, 0xc041, true);
  view.setUint16(0x2c, 0x8086, true);
  view.setUint16(0x2e, 0x0001, true);
  view.setUint8(0x3c, 11);
  view.setUint8(0x3d, 1);
  return config;
}

describe('configuration space', () => {
  it('of an endpoint', () => {
    expect(readPciConfig(e1000e())).toEqual({
      vendorId: 0x8086, deviceId: 0x10d3, status: 0x10, revision: 3, classCode: 0x02_0000, kind: 'endpoint', multifunction: false,
      command: { value: 0x406, ioSpace: false, memorySpace: true, busMaster: true, intxDisable: true },
      subsystem: { vendorId: 0x8086, deviceId: 1 },
      bars: [
        { index: 0, kind: 'memory', bits: 32, prefetchable: false, address: 0xfeb4_0000n },
        { index: 1, kind: 'memory', bits: 64, prefetchable: true, address: 0x10_feb6_0000n },
        { index: 3, kind: 'io', bits: 32, prefetchable: false, address: 0xc040n },
      ],
      interruptPin: 1, interruptLine: 11,
      capabilities: [{ id: 1, offset: 0xc8 }, { id: 5, offset: 0xd0 }, { id: 0x10, offset: 0xe0 }, { id: 0x11, offset: 0xa0 }],
      extended: [{ id: 1, version: 1, offset: 0x100 }, { id: 3, version: 1, offset: 0x140 }],
    });
  });

  it('of a bridge has two BARs, and what follows them are numbers of its own', () => {
    const config = e1000e();
    config[0x0e] = 0x81;
    config[0x10] = 4;
    expect(readPciConfig(config)).toMatchObject({ kind: 'bridge', multifunction: true, bars: [{ index: 0, bits: 64 }] });
    expect(readPciConfig(config)).not.toHaveProperty('subsystem');
    config[0x0e] = 0x7f;
    expect(readPciConfig(config)).toMatchObject({ kind: 'unknown', bars: [] });
  });

  it('of 64 and of 256 bytes', () => {
    expect(readPciConfig(e1000e().subarray(0, 256))).toMatchObject({ extended: [], capabilities: { length: 4 } });
    const bare = e1000e().subarray(0, 64);
    bare[6] = 0;
    expect(readPciConfig(bare).capabilities).toEqual([]);
  });

  it('says what is wrong, and where', () => {
    expect(caught(() => readPciConfig(e1000e().subarray(0, 63), 'd0'), 'VFIO_E_PROTOCOL')).toMatchObject({ device: 'd0', operation: 'read configuration space' });
    expect(caught(() => readPciConfig(new Uint8Array(256).fill(0xff)), 'VFIO_E_NO_DEVICE').message).toContain('pulled out');
    const loop = e1000e();
    loop[0xa1] = 0xc8;
    expect(caught(() => readPciConfig(loop), 'VFIO_E_PROTOCOL').message).toMatch(/byte 200 .*loop/);
    const extended = e1000e();
    new DataView(extended.buffer).setUint32(0x140, 0x1401_0003, true);
    expect(caught(() => readPciConfig(extended), 'VFIO_E_PROTOCOL').message).toMatch(/byte 320 .*loop/);
    const wide = e1000e();
    new DataView(wide.buffer).setUint32(0x24, 4, true);
    expect(caught(() => readPciConfig(wide), 'VFIO_E_PROTOCOL').message).toMatch(/last BAR/);
  });

  it('any bytes at all, and any damage to good ones: a value or a typed error, and what it names lies inside', () => {
    const damaged = fc.array(fc.tuple(fc.nat(4095), fc.nat(255)), { maxLength: 40 }).map((changes) => {
      const config = e1000e();
      for (const [at, value] of changes) config[at] = value;
      return config;
    });
    const cut = fc.tuple(fc.oneof(damaged, fc.uint8Array({ minLength: 4096, maxLength: 4096 })), fc.oneof(fc.constantFrom(0, 63, 64, 256, 4096), fc.nat(4096)));
    let read = 0;
    fc.assert(fc.property(cut, ([bytes, length]) => {
      try {
        const { capabilities, extended, bars } = readPciConfig(bytes.subarray(0, length));
        read += 1;
        for (const { offset } of capabilities) expect(offset >= 0x40 && offset + 4 <= Math.min(256, length)).toBe(true);
        for (const { offset } of extended) expect(offset >= 0x100 && offset + 4 <= length).toBe(true);
        expect(bars.every(({ index, bits }) => index + bits / 32 <= 6)).toBe(true);
      } catch (error) {
        if (!VfioError.is(error) || (error.code !== 'VFIO_E_PROTOCOL' && error.code !== 'VFIO_E_NO_DEVICE')) throw error;
      }
    }), { numRuns: 1000 });
    expect(read).toBeGreaterThan(50);
  });
});
