import { firstValueFrom } from 'rxjs';
import { afterEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';
import { everyWidth, throughEveryWidth } from '../support/widths.js';

/** Trapped and mapped access, of every width that the device's hardware takes. */
const open = (address: string): Promise<VfioDevice> => firstValueFrom(openDevice(address));

afterEach(() => {
  expect(vfioFds()).toEqual([]);
});

describe('the sample driver', () => {
  it.each(['trapped', 'mapped'])('%s: every width, and a trapped read beside it sees the same bytes', async (way) => {
    using mdev = new SampleMdev();
    await using opened = await open(mdev.uuid);
    const region = opened.region(1);
    if (way === 'mapped') await firstValueFrom(opened.mapRegion(1));
    expect(region.mapped.areas).toHaveLength(way === 'mapped' ? 2 : 0);
    // Beside the mapping, always: a trapped read of the same bytes.
    const seen = (offset: number, readBytes: number) => [...opened.port.accessNow({ region: 1, offset, readBytes })];
    expect(throughEveryWidth(region, 0x100, seen)).toEqual(everyWidth);
    // Between the two sparse areas it is trapped in any case.
    expect(throughEveryWidth(region, 0x9000, seen)).toEqual(everyWidth);
    await opened.close();
    expect(mdev.held()).toEqual(nothingHeld);
  });
});

describe('e1000e', () => {
  /** Receive address 0: 64 bits of registers that keep what is written (82574 datasheet, RAL and RAH). */
  const receiveAddress = { low: 0x5400, high: 0x5404 };

  it('32 and 64 bits agree, trapped and mapped: one of 64 bits is the two halves', async () => {
    using pci = VfioPci.networkCard();
    await using opened = await open(pci.address);
    const bar = opened.region(0);
    const { low, high } = receiveAddress;
    const look = () => ({ low: bar.read32(low), high: bar.read32(high), both: bar.read64(low) });
    bar.write32(low, 0x4433_2211);
    bar.write32(high, 0x8000_6655);
    const expected = { low: 0x4433_2211, high: 0x8000_6655, both: 0x8000_6655_4433_2211n };
    expect(bar.mapped.areas).toEqual([]);
    expect(look()).toEqual(expected);
    // Narrow ones trapped only: the emulated card answers a mapped load of 8 bits with 32, which no processor would pass on.
    expect([bar.read16(low), bar.read8(low)]).toEqual([0x2211, 0x11]);
    expect(await firstValueFrom(opened.mapRegion(0))).toEqual([]);
    expect(look()).toEqual(expected);
  });

  it('the BAR with the MSI-X table says whether that may be mapped', async () => {
    using pci = VfioPci.networkCard();
    await using opened = await open(pci.address);
    const table = await firstValueFrom(opened.port.regionInfo(3));
    expect(table).toMatchObject({ msixMappable: true, mmappable: true });
    expect((await firstValueFrom(opened.port.regionInfo(0))).msixMappable).toBe(false);
  });

  it('configuration space: every width, the larger ones in parts', async () => {
    using pci = VfioPci.networkCard();
    await using opened = await open(pci.address);
    const space = opened.region(7);
    expect([space.read32(0), space.read16(0), space.read16(2), space.read8(1), space.read64(0) & 0xffff_ffffn]).toEqual([0x10d3_8086, 0x8086, 0x10d3, 0x80, 0x10d3_8086n]);
  });
});
