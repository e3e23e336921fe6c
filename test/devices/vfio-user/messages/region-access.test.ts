import { describe, expect, it } from 'vitest';
import { encodeRegionAccess, encodeWriteMulti, encodeWritesDone, readRegionData, readRegionPart, readWriteMulti } from '../../../../src/devices/vfio-user/messages/region-access.js';
import { survives } from '../../../support/vfio-user/hostile.js';

const part = { region: 2, offset: 0x1_0000_0008, count: 4 };
const data = Uint8Array.of(1, 2, 3, 4);

describe('REGION_READ, REGION_WRITE and REGION_WRITE_MULTI', () => {
  it('stand at the offsets of the protocol', () => {
    expect(Buffer.from(encodeRegionAccess(part, data)).toString('hex')).toBe('0800000001000000' + '02000000' + '04000000' + '01020304');
    expect(Buffer.from(encodeWriteMulti([{ region: 1, offset: 8, data: Uint8Array.of(7) }])).toString('hex')).toBe('0100000000000000' + '0800000000000000' + '01000000' + '01000000' + '0700000000000000');
    expect(Buffer.from(encodeWritesDone(200)).toString('hex')).toBe('c800000000000000');
  });

  it('are read back as they were written', () => {
    expect(readRegionPart(encodeRegionAccess(part))).toEqual(part);
    expect(readRegionData(encodeRegionAccess(part, data))).toEqual({ ...part, data });
    const writes = [{ region: 0, offset: 0, data: Uint8Array.of(1) }, { region: 5, offset: 16, data: new Uint8Array(8).fill(9) }];
    expect(readWriteMulti(encodeWriteMulti(writes))).toEqual(writes.map((write) => ({ ...write, count: write.data.length })));
  });

  it('refuse data of another length than they say, counts beyond the bound and offsets that are not exact', () => {
    expect(() => readRegionData(encodeRegionAccess(part, data.subarray(1)))).toThrow(/3 bytes of data, where count says 4/);
    expect(() => readRegionPart(encodeRegionAccess({ ...part, count: (1 << 20) + 1 }))).toThrow(/at most/);
    const far = encodeRegionAccess(part);
    far[7] = 0xff;
    expect(() => readRegionPart(far)).toThrow(/2\^53/);
    const multi = encodeWriteMulti([{ region: 1, offset: 8, data }]);
    multi[0] = 2;
    expect(() => readWriteMulti(multi)).toThrow(/wr_cnt is 2, there are 1 writes/);
    multi[0] = 1;
    multi[20] = 9;
    expect(() => readWriteMulti(multi)).toThrow(/9 bytes, 1 to 8/);
  });

  it('survive whatever comes', () => {
    survives(readRegionPart, [encodeRegionAccess(part)]);
    survives(readRegionData, [encodeRegionAccess(part, data)]);
    survives(readWriteMulti, [encodeWriteMulti([{ region: 1, offset: 8, data }])]);
  });
});
