import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findDevice } from '../../src/devices/kernel/discovery.js';
import { parseAddress } from '../../src/devices/kernel/address.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice, type KernelWay } from '../../src/devices/open.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

const fileOf = (address: string) => `/dev/vfio/devices/${findDevice(parseAddress(address)).cdev ?? ''}`;
const groupOf = (address: string) => `/dev/vfio/${findDevice(parseAddress(address)).group ?? ''}`;
/** Those of a test that are still open when it fails would fail all that come after. */
const opened: VfioDevice[] = [];
const open = async (address: string, way?: KernelWay): Promise<VfioDevice> => {
  const device = await firstValueFrom(openDevice(address, way === undefined ? {} : { way }));
  opened.push(device);
  return device;
};
const refusal = (address: string, way?: KernelWay) => open(address, way).then(() => undefined, (error: unknown) => error);
const saying = (text: string) => expect.stringContaining(text) as string;

describe('a device by its own file', () => {
  let mdev: SampleMdev;
  let children: ChildProcess[];

  beforeEach(() => {
    mdev = new SampleMdev();
    children = [];
  });

  afterEach(async () => {
    for (const child of children) {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
    for (const device of opened.splice(0)) await device.close();
    expect(mdev.held()).toEqual(nothingHeld);
    expect(vfioFds()).toEqual([]);
    mdev[Symbol.dispose]();
  });

  it('is the usual way: one file for the device, one for the IOMMU', async () => {
    for (const address of [mdev.uuid, fileOf(mdev.uuid)]) {
      await using device = await open(address);
      expect(device.name).toBe(mdev.uuid);
      expect(device.info).toMatchObject({ regions: 9, irqs: 6 });
      expect(device.migration).toEqual({ version: 2, flags: 7 });
      expect(vfioFds().toSorted()).toEqual(['/dev/iommu', fileOf(mdev.uuid)]);
    }
    await using device = await open(mdev.uuid, 'group');
    expect(vfioFds()).toContain(groupOf(device.name));
    expect(vfioFds()).not.toContain('/dev/iommu');
  });

  it('gives back in order what it has', async () => {
    const device = await open(mdev.uuid);
    void device.close();
    expect((await lastValueFrom(device.released.pipe(toArray()))).map(({ what, error }) => [what, error])).toEqual(
      ['detached from the IOMMU', 'device fd closed', 'iommufd given back'].map((what) => [what, undefined]),
    );
  });

  it.each([[0, 1], [1, 0]])('of two, each bound to the one iommufd: %i is closed before %i', async (early, late) => {
    using other = new SampleMdev();
    const devices = [await open(mdev.uuid), await open(other.uuid)];
    expect(vfioFds()).toHaveLength(3);
    await devices[early]?.close();
    expect(vfioFds()).toHaveLength(2);
    expect(devices[late]?.region(7).read16(0)).toBe(0xfeed);
    await devices[late]?.close();
    expect(vfioFds()).toEqual([]);
  });

  it.each([
    ['/dev/vfio/devices/vfio999', 'VFIO_E_ADDRESS', 'no such device file'],
    ['/dev/vfio/devices/card0', 'VFIO_E_ADDRESS', '/dev/vfio/devices/vfioN'],
  ])('says what is wrong with %s', async (address, code, message) => {
    expect(await refusal(address)).toMatchObject({ code, message: saying(message) });
  });

  it('says what is missing without permission', async () => {
    process.seteuid?.(65_534);
    try {
      expect(await refusal(mdev.uuid)).toMatchObject({ code: 'VFIO_E_PERMISSION', errno: 'EACCES', message: saying(`give this user access to ${fileOf(mdev.uuid)}`) });
    } finally {
      process.seteuid?.(0);
    }
  });

  describe('refuses the other way while it is open', () => {
    it.each([
      ['cdev', 'cdev', () => `by its own file (${fileOf(mdev.uuid)}), by this process`],
      ['cdev', 'group', () => `by the own file of ${mdev.uuid} (${fileOf(mdev.uuid)}), by this process`],
      ['group', 'cdev', () => `by its group (${groupOf(mdev.uuid)}), by this process`],
    ] as const)('open by %s, asked by %s', async (first, second, message) => {
      const device = await open(mdev.uuid, first);
      const before = vfioFds();
      expect(await refusal(mdev.uuid, second)).toMatchObject({ code: 'VFIO_E_BUSY', message: saying(message()) });
      expect(vfioFds()).toEqual(before);
      expect(device.region(7).read16(0)).toBe(0xfeed);
      await device.close();
      await (await open(mdev.uuid, second)).close();
    });

    it('also where another process has it, which it names', async () => {
      const holder = spawn('sh', ['-c', `exec 3<> ${groupOf(mdev.uuid)}; echo held; exec sleep 1000`], { stdio: ['ignore', 'pipe', 'inherit'] });
      children.push(holder);
      await once(holder.stdout, 'data');
      expect(await refusal(mdev.uuid)).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EBUSY', message: saying(`by its group (${groupOf(mdev.uuid)}), by process ${holder.pid}`) });
      expect(await refusal(mdev.uuid, 'group')).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EBUSY', message: saying(`by process ${holder.pid}`) });
    });

    it('also where another process has bound it; killed, that leaves nothing', async () => {
      const user = spawn(process.execPath, [`${process.env['VFIO_RX_CHILDREN'] ?? ''}/test/kernel/user.child.mjs`, mdev.uuid], { stdio: ['ignore', 'pipe', 'inherit'] });
      children.push(user);
      let said = '';
      for await (const text of user.stdout) if ((said += String(text)).includes('serving')) break;
      expect(await refusal(mdev.uuid)).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EINVAL', message: saying(`by its own file (${fileOf(mdev.uuid)}), by process ${user.pid} (`) });
      expect(await refusal(mdev.uuid, 'group')).toMatchObject({ code: 'VFIO_E_BUSY', errno: 'EBUSY', message: saying(`by process ${user.pid} (`) });
      user.kill('SIGKILL');
      await once(user, 'exit');
      children.length = 0;
      expect(mdev.held()).toEqual(nothingHeld);
      for (const way of ['cdev', 'group'] as const) await (await open(mdev.uuid, way)).close();
    });
  });

  it('two of one group are open together; by their group they are refused then', async () => {
    const pair = VfioPci.pair();
    try {
      const [first, second] = [await open(pair[0].address), await open(pair[1].address)];
      expect(vfioFds()).toHaveLength(3);
      expect(await refusal(`group:${pair[0].group}/${pair[0].address}`)).toMatchObject({ code: 'VFIO_E_BUSY', message: saying(pair[0].address) });
      await first.close();
      expect(await refusal(pair[0].address, 'group')).toMatchObject({ code: 'VFIO_E_BUSY', message: saying(`by the own file of ${pair[1].address}`) });
      await second.close();
      await (await open(pair[0].address, 'group')).close();
    } finally {
      for (const device of opened.splice(0)) await device.close();
      for (const pci of pair) pci[Symbol.dispose]();
    }
  });

  it('by its BDF finds its file', async () => {
    using pci = VfioPci.edu();
    expect(readdirSync('/dev/vfio/devices')).toContain(fileOf(pci.address).split('/').at(-1));
    expect(await refusal(pci.address, 'noiommu')).toMatchObject({ code: 'VFIO_E_UNAVAILABLE' });
    await using device = await open(pci.address);
    expect(vfioFds()).toContain(fileOf(device.name));
    expect(device.info.pci).toBe(true);
  });
});
