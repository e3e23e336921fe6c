import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { walkCapabilities, walkExtendedCapabilities } from '../../../src/devices/protocol/pci-capabilities.js';
import { pciSpace } from './pci-space.js';

describe('the capability list', () => {
  it('is followed in its order, low bits of pointers dropped', () => {
    const config = pciSpace({ capabilities: [[1, 0x80], [5, 0x50], [0x10, 0xf0]] });
    config[0x34] = 0x83;
    expect(walkCapabilities(config)).toEqual({ found: [{ id: 1, offset: 0x80 }, { id: 5, offset: 0x50 }, { id: 0x10, offset: 0xf0 }] });
  });

  it('is empty without the status bit, with a null pointer, and where the header is cut off', () => {
    const config = pciSpace({ capabilities: [[1, 0x80]] });
    expect(walkCapabilities(config.subarray(0, 0x3f))).toEqual({ found: [] });
    config[0x06] = 0;
    expect(walkCapabilities(config)).toEqual({ found: [] });
    expect(walkCapabilities(pciSpace({ capabilities: [] }))).toEqual({ found: [] });
  });

  it('of a cardbus bridge begins elsewhere', () => {
    const config = pciSpace({ capabilities: [[1, 0x80]] });
    config[0x0e] = 0x82;
    config[0x14] = 0x80;
    config[0x34] = 0x13;
    expect(walkCapabilities(config).found).toEqual([{ id: 1, offset: 0x80 }]);
  });

  it.each([
    ['a loop', [[1, 0x80], [5, 0x50], [1, 0x80]], /loop/, 2],
    ['a pointer into the header', [[1, 0x80], [5, 0x3c]], /in front of/, 1],
  ] as const)('ends at %s, and what came before stands', (_, capabilities, what, before) => {
    const walked = walkCapabilities(pciSpace({ capabilities }));
    expect(walked.fault?.what).toMatch(what);
    expect(walked.found).toHaveLength(before);
  });

  it('ends where a short space does', () => {
    expect(walkCapabilities(pciSpace({ capabilities: [[1, 0x40], [5, 0x80]] }).subarray(0, 0x50)).fault).toMatchObject({ offset: 0x80 });
  });
});

describe('the extended list', () => {
  it('is followed; what the kernel hides is passed over', () => {
    const config = pciSpace({ extended: [[0, 0x100], [1, 0x140], [0, 0x200], [0x10, 0x300]] });
    expect(walkExtendedCapabilities(config)).toEqual({ found: [{ id: 1, version: 1, offset: 0x140 }, { id: 0x10, version: 1, offset: 0x300 }] });
  });

  it('is empty in a space of 256 bytes, and where its first header is zeros or ones', () => {
    expect(walkExtendedCapabilities(new Uint8Array(256))).toEqual({ found: [] });
    expect(walkExtendedCapabilities(new Uint8Array(4096))).toEqual({ found: [] });
    expect(walkExtendedCapabilities(new Uint8Array(4096).fill(0xff))).toEqual({ found: [] });
  });

  it('ends at a loop, in front of its room, and behind it', () => {
    expect(walkExtendedCapabilities(pciSpace({ extended: [[1, 0x100], [2, 0x200], [1, 0x100]] }))).toMatchObject({ found: [{ id: 1 }, { id: 2 }], fault: { offset: 0x100, what: expect.stringContaining('loop') as string } });
    expect(walkExtendedCapabilities(pciSpace({ extended: [[1, 0x100], [2, 0x80]] })).fault?.offset).toBe(0x80);
    expect(walkExtendedCapabilities(pciSpace({ extended: [[1, 0x100], [2, 0xa00]] }).subarray(0, 0x800)).fault?.offset).toBe(0xa00);
  });
});

it('any bytes at all: both walks end, find each place once, and stay inside', () => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 0, maxLength: 4096, size: 'max' }), (config) => {
    for (const [walk, first, end] of [[walkCapabilities, 0x40, 256], [walkExtendedCapabilities, 0x100, 4096]] as const) {
      const offsets = walk(config).found.map(({ offset }) => offset);
      expect(new Set(offsets).size).toBe(offsets.length);
      expect(offsets.every((at) => at >= first && at + 4 <= Math.min(end, config.length) && at % 4 === 0)).toBe(true);
    }
  }), { numRuns: 300 });
});
