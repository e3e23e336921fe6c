import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDevice } from '../../src/devices/open.js';
import { vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** A register that says something, and nothing (all ones) once the device is gone. */
const status = { region: 0, offset: 0x08 };

describe('two devices of one group', () => {
  let pair: readonly [VfioPci, VfioPci];
  const bound: VfioPci[] = [];
  const open = (pci: VfioPci) => firstValueFrom(openDevice(pci.address));

  beforeEach(() => {
    pair = VfioPci.pair();
    bound.push(...pair);
  });

  afterEach(() => {
    expect(vfioFds()).toEqual([]);
    for (const pci of bound.splice(0)) pci[Symbol.dispose]();
  });

  it('share a group, as their addresses say', async () => {
    const [first, second] = pair;
    expect(first.group).toBe(second.group);
    await expect(firstValueFrom(openDevice(`group:${first.group}`))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
    await using device = await firstValueFrom(openDevice(`group:${first.group}/${second.address}`));
    expect(device.name).toBe(second.address);
  });

  it.each([
    [0, 1],
    [1, 0],
  ])('are open together: %i is closed before %i, which lives on', async (early, late) => {
    const devices = await Promise.all(pair.map(open));
    // Two devices, one group, one container.
    expect(vfioFds()).toHaveLength(4);
    await devices[early]?.close();
    expect(vfioFds()).toHaveLength(3);
    expect(devices[late]?.region(status.region).read32(status.offset)).not.toBe(0xffff_ffff);
    await devices[late]?.close();
    expect(vfioFds()).toEqual([]);
  });

  it('are given out alone as well, while the other one has no driver', async () => {
    const [first, second] = pair;
    second[Symbol.dispose]();
    await using device = await open(first);
    expect(device.region(status.region).read32(status.offset)).not.toBe(0xffff_ffff);
    await expect(open(second)).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
  });
});
