import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { queryRegionInfo, readRegionInfo } from '../../../src/devices/uapi/region-info.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';
import { regionInfo, sparse, type AreaToWrite, type CapabilityToWrite, type RegionToWrite } from './encoders.js';

const READ_WRITE_MMAP = 7;
const plain: RegionToWrite = { index: 2, flags: READ_WRITE_MMAP, size: 0x4000, offset: 2 * 2 ** 40 };
const withAreas = (areas: readonly AreaToWrite[], more: Partial<RegionToWrite> = {}) =>
  readRegionInfo(regionInfo({ ...plain, ...more, capabilities: [sparse(areas)] }), 2);
const refusal = (region: Partial<RegionToWrite>, index = 2): string => {
  const error = caught(() => readRegionInfo(regionInfo({ ...plain, ...region }), index, 'sw0'), 'VFIO_E_PROTOCOL');
  expect(error).toMatchObject({ operation: `VFIO_DEVICE_GET_REGION_INFO(${index})`, device: 'sw0' });
  return error.message;
};

describe('readRegionInfo', () => {
  it('reads a sparse region byte by byte', () => {
    const bytes = hex(`
      68 00 00 00  0f 00 00 00           # argsz 104, READ | WRITE | MMAP | CAPS
      02 00 00 00  20 00 00 00           # index 2, cap_offset 32
      00 40 00 00 00 00 00 00            # size 0x4000
      00 00 00 00 00 02 00 00            # offset 2 << 40
      01 00 01 00 50 00 00 00            # SPARSE_MMAP version 1, next 80
      02 00 00 00 00 00 00 00            # nr_areas 2
      00 20 00 00 00 00 00 00  00 10 00 00 00 00 00 00
      00 00 00 00 00 00 00 00  00 10 00 00 00 00 00 00
      02 00 01 00 60 00 00 00            # TYPE version 1, next 96
      de 10 00 80 03 00 00 00            # type 0x800010de, subtype 3
      03 00 01 00 00 00 00 00            # MSIX_MAPPABLE`);
    expect(readRegionInfo(bytes, 2)).toEqual({
      index: 2,
      flags: 15,
      readable: true,
      writable: true,
      mmappable: true,
      size: 0x4000,
      fileOffset: 2 * 2 ** 40,
      areas: [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }],
      type: { type: 0x8000_10de, subtype: 3 },
      msixMappable: true,
    });
  });

  it('takes a mappable region without a sparse capability for one area', () => {
    expect(readRegionInfo(regionInfo(plain), 2)).toEqual({
      index: 2,
      flags: 7,
      readable: true,
      writable: true,
      mmappable: true,
      size: 0x4000,
      fileOffset: 2 * 2 ** 40,
      areas: [{ offset: 0, size: 0x4000 }],
      msixMappable: false,
    });
  });

  it('reads the saving layout, whatever may be mapped now; an unknown version is none', () => {
    const areas = [{ offset: 0x1000, size: 0x1000 }];
    const savingLayout = (version = 1): CapabilityToWrite => ({ ...sparse(areas, version), id: 0xff02 });
    const read = (...capabilities: CapabilityToWrite[]) => readRegionInfo(regionInfo({ ...plain, capabilities }), 2);
    expect(read(savingLayout())).toMatchObject({ areas: [{ offset: 0, size: 0x4000 }], savingAreas: areas });
    expect(read(sparse([{ offset: 0, size: 0x2000 }]), savingLayout())).toMatchObject({ areas: [{ offset: 0, size: 0x2000 }], savingAreas: areas });
    expect(readRegionInfo(regionInfo({ ...plain, flags: 3, capabilities: [savingLayout()] }), 2)).toMatchObject({ mmappable: false, areas: [], savingAreas: areas });
    expect(read({ ...sparse([]), id: 0xff02 })).toMatchObject({ savingAreas: [] });
    expect(read(savingLayout(2))).not.toHaveProperty('savingAreas');
    expect(refusal({ capabilities: [{ ...sparse([{ offset: 0x4000, size: 0x1000 }]), id: 0xff02 }] })).toContain('leaves the region');
  });

  it('has no areas without MMAP, whatever the sparse capability says', () => {
    expect(readRegionInfo(regionInfo({ ...plain, flags: 3 }), 2)).toMatchObject({ mmappable: false, areas: [] });
    expect(withAreas([{ offset: 0, size: 0x1000 }], { flags: 3 })).toMatchObject({ mmappable: false, areas: [] });
  });

  it('has no areas in a region of size 0', () => {
    expect(readRegionInfo(regionInfo({ ...plain, size: 0 }), 2).areas).toEqual([]);
  });

  it('says what may be read and written', () => {
    expect(readRegionInfo(regionInfo({ ...plain, flags: 1 }), 2)).toMatchObject({ readable: true, writable: false });
    expect(readRegionInfo(regionInfo({ ...plain, flags: 2 }), 2)).toMatchObject({ readable: false, writable: true });
  });

  it("refuses another region's answer", () => {
    expect(refusal({}, 3)).toContain('at byte 8 of the answer: region 2 answered');
  });

  it('reads sizes and offsets up to 2^53 - 1 and refuses more', () => {
    const most = Number.MAX_SAFE_INTEGER;
    expect(readRegionInfo(regionInfo({ ...plain, size: most, offset: 0 }), 2).size).toBe(most);
    expect(readRegionInfo(regionInfo({ ...plain, size: 0, offset: most }), 2).fileOffset).toBe(most);
    expect(refusal({ size: 2n ** 53n })).toContain('at byte 16 of the answer: size');
    expect(refusal({ offset: 2n ** 64n - 1n })).toContain('at byte 24 of the answer: offset');
    expect(refusal({ size: most, offset: 1 })).toContain("the region's end");
  });

  it('refuses a chain that is promised and missing, instead of offering the whole region', () => {
    const bytes = regionInfo(plain);
    bytes[4] = 15;
    caught(() => readRegionInfo(bytes, 2), 'VFIO_E_PROTOCOL');
  });

  it('refuses two sparse capabilities', () => {
    expect(refusal({ capabilities: [sparse([]), sparse([])] })).toContain('a second capability with id 1');
  });

  it('leaves unknown capabilities and a TYPE of another version alone', () => {
    const capabilities = [{ id: 77, payload: new Uint8Array(4) }, { id: 2, version: 2, payload: new Uint8Array(0) }];
    expect(readRegionInfo(regionInfo({ ...plain, capabilities }), 2)).not.toHaveProperty('type');
  });

  it('refuses a TYPE that is cut off', () => {
    expect(refusal({ capabilities: [{ id: 2, payload: new Uint8Array(4) }] })).toContain('12 of 16 bytes');
  });

  it('survives any bytes', () => {
    survivesAnyBytes((bytes) => readRegionInfo(bytes, bytes[8] ?? 0), likelyRegion.map(regionInfo));
  });

  it('never offers an area outside the region, one that overlaps, or an empty one', () => {
    fc.assert(
      fc.property(likelyRegion, (region) => {
        let info;
        try {
          info = readRegionInfo(regionInfo(region), region.index);
        } catch (error) {
          expect(error).toMatchObject({ code: 'VFIO_E_PROTOCOL' });
          return;
        }
        let end = 0;
        for (const area of info.areas) {
          expect(area.size).toBeGreaterThan(0);
          expect(area.offset).toBeGreaterThanOrEqual(end);
          end = area.offset + area.size;
        }
        expect(end).toBeLessThanOrEqual(info.size);
      }),
      { numRuns: 2000 },
    );
  });
});

/** Regions in which about half of the area lists are legal. */
const likelyRegion: fc.Arbitrary<RegionToWrite> = fc.record({
  index: fc.nat(200),
  flags: fc.nat(15).map((flags) => flags & 7),
  size: fc.oneof(fc.nat(64), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  offset: fc.oneof(fc.nat(1000), fc.bigInt({ min: 0n, max: 2n ** 54n })),
  capabilities: fc.oneof(
    fc.constant([]),
    fc.array(fc.record({ offset: fc.nat(70), size: fc.nat(12) }), { maxLength: 4 }).map((areas) => [sparse(areas)]),
    fc.array(fc.record({ offset: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), size: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }), { maxLength: 3 })
      .map((areas) => [sparse(areas)]),
  ),
});

describe('queryRegionInfo', () => {
  it('names the region in every ask of the handshake', () => {
    const areas = Array.from({ length: 20 }, (_, i) => ({ offset: i * 0x100, size: 0x100 }));
    const answer = regionInfo({ ...plain, capabilities: [sparse(areas)] });
    const asked: [number, number][] = [];
    const info = queryRegionInfo(2, (buffer) => {
      const view = new DataView(buffer.buffer);
      asked.push([buffer.length, view.getUint32(8, true)]);
      if (buffer.length >= answer.length) buffer.set(answer);
      else {
        // What vfio_pci does where the chain does not fit: all but the chain, argsz what it takes, cap_offset 0.
        buffer.set(answer.subarray(0, 32));
        view.setUint32(12, 0, true);
      }
    });
    expect(info.areas).toEqual(areas);
    expect(asked).toEqual([[256, 2], [answer.length, 2]]);
  });

  it('refuses an index that is no u32 before the kernel is asked', () => {
    caught(() => queryRegionInfo(-1, () => expect.fail('asked')), 'VFIO_E_RANGE');
  });
});
