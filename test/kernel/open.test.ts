import { closeSync, openSync } from 'node:fs';
import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { listDevices } from '../../src/devices/kernel/discovery.js';
import { openDevice } from '../../src/devices/open.js';
import { virtualClock } from '../support/virtual-clock.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';

describe('opening a device of the kernel', () => {
  let mdev: SampleMdev;

  beforeEach(() => {
    mdev = new SampleMdev();
  });

  afterEach(() => {
    expect(mdev.held()).toEqual(nothingHeld);
    expect(vfioFds()).toEqual([]);
    mdev[Symbol.dispose]();
  });

  const failing = (address: string) => firstValueFrom(openDevice(address)).then(() => undefined, (error: unknown) => error);

  it('finds it by uuid, by group, and by group and name', async () => {
    const found = listDevices().find((device) => device.name === mdev.uuid);
    expect(found).toMatchObject({ kind: 'mdev' });
    for (const address of [mdev.uuid, mdev.uuid.toUpperCase(), `group:${found?.group}`, `group:${found?.group}/${mdev.uuid}`]) {
      await using device = await firstValueFrom(openDevice(address));
      expect(device.name).toBe(mdev.uuid);
      expect(device.info).toMatchObject({ regions: 9, irqs: 6 });
      expect([...device.regions.keys()]).toEqual([0, 1, 2, 7]);
      expect(device.migration).toEqual({ version: 2, flags: 7 });
    }
  });

  it('holds several groups in one container, and gives each back', async () => {
    using other = new SampleMdev();
    const first = await firstValueFrom(openDevice(mdev.uuid));
    const second = await firstValueFrom(openDevice(other.uuid));
    // device, group and container of the first; device and group of the second: the container is shared.
    expect(vfioFds()).toHaveLength(5);
    await first.close();
    expect(vfioFds()).toHaveLength(3);
    expect(second.region(7).read16(0)).toBe(0xfeed);
    await second.close();
    await second.close();
    expect(vfioFds()).toEqual([]);
  });

  it.each([
    ['nonsense', 'VFIO_E_ADDRESS', /expected an mdev uuid/],
    ['00000000-0000-0000-0000-000000000001', 'VFIO_E_ADDRESS', /no such mdev/],
    ['0000:ff:1f.7', 'VFIO_E_ADDRESS', /no such PCI function/],
    ['group:999', 'VFIO_E_ADDRESS', /no such group/],
    ['group:999/0000:00:00.0', 'VFIO_E_ADDRESS', /no such VFIO group/],
  ])('says what is wrong with %s', async (address, code, message) => {
    expect(await failing(address)).toMatchObject({ code, message: expect.stringMatching(message) as string });
  });

  it('says what is missing without permission', async () => {
    process.seteuid?.(65534);
    try {
      expect(await failing(mdev.uuid)).toMatchObject({ code: 'VFIO_E_PERMISSION', errno: 'EACCES' });
    } finally {
      process.seteuid?.(0);
    }
  });

  it('says that the group is taken', async () => {
    const found = listDevices().find((device) => device.name === mdev.uuid);
    const held = openSync(`/dev/vfio/${found?.group}`, 'r+');
    try {
      expect(await failing(mdev.uuid)).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EBUSY' });
    } finally {
      closeSync(held);
    }
  });

  it('refuses virtual time', async () => {
    const virtual = await firstValueFrom(openDevice(mdev.uuid, { clock: virtualClock() })).then(() => undefined, (error: unknown) => error);
    expect(virtual).toMatchObject({ code: 'VFIO_E_CLOCK' });
  });
});
