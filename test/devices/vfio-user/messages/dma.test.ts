import { describe, expect, it } from 'vitest';
import { encodeDmaAccess, encodeDmaMap, encodeDmaUnmap, readDmaData, readDmaMap, readDmaPart, readDmaUnmap } from '../../../../src/devices/vfio-user/messages/dma.js';
import { survives } from '../../../support/vfio-user/hostile.js';

const map = { iova: 0xffff_ffff_ffff_f000n, size: 4096, offset: 8192, read: true, write: false };

describe('DMA messages', () => {
  it('stand at the offsets of the protocol', () => {
    expect(Buffer.from(encodeDmaMap(map)).toString('hex')).toBe('20000000' + '01000000' + '0020000000000000' + '00f0ffffffffffff' + '0010000000000000');
    expect(Buffer.from(encodeDmaUnmap({ iova: 0x1000n, size: 4096 })).toString('hex')).toBe('18000000' + '00000000' + '0010000000000000' + '0010000000000000');
    expect(Buffer.from(encodeDmaAccess({ iova: 1n, size: 2 }, Uint8Array.of(3, 4))).toString('hex')).toBe('0100000000000000' + '0200000000000000' + '0304');
  });

  it('are read back as they were written', () => {
    expect(readDmaMap(encodeDmaMap(map))).toEqual(map);
    expect(readDmaUnmap(encodeDmaUnmap(map))).toEqual({ iova: map.iova, size: map.size, all: false });
    expect(readDmaPart(encodeDmaAccess({ iova: 7n, size: 9 }))).toEqual({ iova: 7n, size: 9 });
    expect(readDmaData(encodeDmaAccess({ iova: 7n, size: 2 }, Uint8Array.of(1, 2)))).toEqual({ iova: 7n, size: 2, data: Uint8Array.of(1, 2) });
  });

  it('refuse unknown flags, the old dirty bitmap, sizes beyond 2^53 and data of another length', () => {
    const flags = encodeDmaMap(map);
    flags[4] = 4;
    expect(() => readDmaMap(flags)).toThrow(/unknown flags 0x4/);
    const bitmap = encodeDmaUnmap(map);
    bitmap[4] = 1;
    expect(() => readDmaUnmap(bitmap)).toThrow(/dirty bitmap/);
    const huge = encodeDmaMap(map);
    huge[31] = 0xff;
    expect(() => readDmaMap(huge)).toThrow(/2\^53/);
    expect(() => readDmaData(encodeDmaAccess({ iova: 0n, size: 3 }, new Uint8Array(2)))).toThrow(/count says 3/);
    expect(() => readDmaPart(encodeDmaAccess({ iova: 0n, size: (1 << 20) + 1 }))).toThrow(/at most/);
  });

  it('survive whatever comes', () => {
    survives(readDmaMap, [encodeDmaMap(map)]);
    survives(readDmaUnmap, [encodeDmaUnmap(map)]);
    survives(readDmaPart, [encodeDmaAccess(map)]);
    survives(readDmaData, [encodeDmaAccess({ iova: 0n, size: 2 }, new Uint8Array(2))]);
  });
});
