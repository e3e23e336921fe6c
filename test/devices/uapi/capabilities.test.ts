import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { capabilityView, findCapability, readCapabilities, readChain } from '../../../src/devices/uapi/capabilities.js';
import { caught, concat, hex, survivesAnyBytes } from './bytes-helpers.js';
import { chain } from './encoders.js';

const origin = { operation: 'VFIO_DEVICE_GET_REGION_INFO(2)', device: 'sw0' };
const fixed = hex('00 00 00 00 00 00 00 00');
const read = (bytes: Uint8Array, start = 8) => readCapabilities(bytes, { start, fixedBytes: 8 }, origin);
const refusal = (bytes: Uint8Array, start = 8): string => {
  const error = caught(() => read(bytes, start), 'VFIO_E_PROTOCOL');
  expect(error).toMatchObject({ operation: origin.operation, device: 'sw0' });
  return error.message;
};

describe('readCapabilities', () => {
  it('reads a chain byte by byte, unknown ids included', () => {
    const bytes = hex(`
      00 00 00 00 00 00 00 00                            # fixed part
      02 00 01 00 18 00 00 00  05 00 00 00 06 00 00 00   # id 2, version 1, next 24
      34 12 07 00 00 00 00 00  aa bb cc dd               # id 0x1234, version 7, end`);
    expect(read(bytes)).toEqual([
      { id: 2, version: 1, offset: 8, bytes: bytes.subarray(8, 24) },
      { id: 0x1234, version: 7, offset: 24, bytes: bytes.subarray(24, 36) },
    ]);
  });

  it('follows a chain that runs backwards, and bounds each capability by the next one in memory', () => {
    const bytes = hex(`
      00 00 00 00 00 00 00 00
      02 00 01 00 00 00 00 00
      01 00 01 00 08 00 00 00  ff ff ff ff`);
    expect(read(bytes, 16).map(({ id, offset, bytes: { length } }) => [id, offset, length])).toEqual([[1, 16, 12], [2, 8, 8]]);
  });

  it('has nothing to read where cap_offset is 0', () => {
    expect(read(fixed, 0)).toEqual([]);
  });

  it('refuses a header that is cut off', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 00 00 00')]))).toContain('at byte 8');
  });

  it('refuses an offset beyond the answer', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 fc ff ff ff')]))).toContain('at byte 4294967292');
  });

  it('refuses an offset inside the fixed part', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 04 00 00 00')]))).toContain("at byte 4 of the answer: a capability stands inside the struct's first 8 bytes");
  });

  it('refuses a misaligned capability', () => {
    expect(refusal(concat([fixed, hex('00 00 01 00 01 00 00 00 00 00 00')]), 10)).toContain('not aligned');
  });

  it('refuses a capability that points at itself', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 08 00 00 00')]))).toContain('loop');
  });

  it('refuses a longer loop', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 10 00 00 00  02 00 01 00 08 00 00 00')]))).toContain('at byte 8');
  });

  it('refuses capabilities that overlap', () => {
    expect(refusal(concat([fixed, hex('01 00 01 00 0c 00 00 00  00 00 00 00')]))).toContain('overlaps the one at byte 12');
  });

  it('reads 64 capabilities and refuses 65', () => {
    const many = (count: number) => concat([fixed, chain(8, Array.from({ length: count }, (_, id) => ({ id, payload: new Uint8Array(0) })))]);
    expect(read(many(64))).toHaveLength(64);
    expect(refusal(many(65))).toContain('more than 64');
  });

  it('gives back every chain that the kernel could lay', () => {
    const capability = fc.record({
      id: fc.nat(0xffff),
      version: fc.nat(0xffff),
      payload: fc.integer({ min: 0, max: 6 }).chain((words) => fc.uint8Array({ minLength: words * 4, maxLength: words * 4 })),
    });
    fc.assert(
      fc.property(fc.array(capability, { minLength: 1, maxLength: 10 }), (capabilities) => {
        const found = read(concat([fixed, chain(8, capabilities)]));
        expect(found.map(({ id, version, bytes }) => ({ id, version, payload: bytes.slice(8) }))).toEqual(capabilities);
      }),
    );
  });

  it('survives any bytes and always ends', () => {
    const header = fc.tuple(fc.nat(4), fc.nat(2), fc.integer({ min: 0, max: 20 }).map((words) => words * 4));
    const headers = fc.array(header, { minLength: 1, maxLength: 8 }).map((list) =>
      concat([fixed, ...list.map(([id, version, next]) => Uint8Array.of(id, 0, version, 0, next, 0, 0, 0))]),
    );
    survivesAnyBytes((bytes) => read(bytes), headers);
  });
});

describe('readChain', () => {
  const view = (bytes: Uint8Array) => new DataView(bytes.buffer);

  it('ignores cap_offset where the flags promise nothing', () => {
    expect(readChain(view(hex('00 00 00 00 ff ff ff ff')), false, 4, 8, origin)).toEqual([]);
  });

  it('refuses a promised chain with cap_offset 0', () => {
    expect(caught(() => readChain(view(fixed), true, 4, 8, origin), 'VFIO_E_PROTOCOL').message).toContain('cap_offset is 0');
  });

  it('refuses a promised chain where the answer has no cap_offset', () => {
    expect(caught(() => readChain(view(fixed), true, 8, 12, origin), 'VFIO_E_PROTOCOL').message).toContain('ends before byte 12');
  });
});

describe('findCapability and capabilityView', () => {
  const capabilities = read(concat([fixed, chain(8, [1, 2, 1].map((id) => ({ id, payload: new Uint8Array(4) })))]));

  it('finds the only one', () => {
    expect(findCapability(capabilities, 2, origin)).toMatchObject({ id: 2, offset: 20 });
    expect(findCapability(capabilities, 3, origin)).toBeUndefined();
  });

  it('refuses a second one', () => {
    expect(caught(() => findCapability(capabilities, 1, origin), 'VFIO_E_PROTOCOL').message).toContain('at byte 32');
  });

  it('refuses one that is shorter than its struct', () => {
    const [first] = capabilities;
    if (first === undefined) throw new Error('no capability');
    expect(capabilityView(first, 12, origin).byteLength).toBe(12);
    expect(caught(() => capabilityView(first, 13, origin), 'VFIO_E_PROTOCOL').message).toContain('12 of 13 bytes');
  });
});
