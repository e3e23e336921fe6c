import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { DevicePort, DmaMapRequest } from '../../src/devices/port.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

const page = 4096;
const both = { read: true, write: true };
const range = (first: number, pages = 1) => ({ iova: BigInt(0x10_0000 + first * page), size: pages * page });
const open = (address: string): Promise<DevicePort> => firstValueFrom(openKernelPort(address, realClock, 'cdev'));
const request = async (of: DevicePort, first: number, pages = 1): Promise<DmaMapRequest> => ({ ...range(first, pages), source: await firstValueFrom(of.allocateDma(pages * page)), ...both });
const map = async (port: DevicePort, first: number, pages = 1) => firstValueFrom(port.dmaMap(await request(port, first, pages)));

describe('the DMA of a port that is bound to an iommufd', () => {
  let mdev: SampleMdev;

  beforeEach(() => {
    mdev = new SampleMdev();
  });

  afterEach(() => {
    expect(mdev.held()).toEqual(nothingHeld);
    expect(vfioFds()).toEqual([]);
    mdev[Symbol.dispose]();
  });

  it('has the limits of the IOAS, which what joins it narrows', async () => {
    await using port = await open(mdev.uuid);
    expect(await firstValueFrom(port.dmaLimits())).toEqual({ pageSizes: 4096n, iovaRanges: [{ start: 0n, end: 2n ** 64n - 1n }], available: undefined, dirtyPages: undefined });
    using pci = VfioPci.edu();
    const edu = await open(pci.address);
    const { iovaRanges = [] } = await firstValueFrom(port.dmaLimits());
    expect(iovaRanges.length).toBeGreaterThan(1);
    expect(iovaRanges.some(({ start, end }) => start <= 0xfee0_0000n && 0xfee0_0000n <= end)).toBe(false);
    await expect(firstValueFrom(port.dmaMap({ ...(await request(port, 0)), iova: 0xfee0_0000n }))).rejects.toMatchObject({ code: 'VFIO_E_RANGE', errno: undefined });
    edu.close();
    await lastValueFrom(edu.released.pipe(toArray()));
  });

  it('is of one address space with the other devices of the process; who closes takes out its own ranges', async () => {
    using second = new SampleMdev();
    await using port = await open(mdev.uuid);
    const other = await open(second.uuid);
    await map(port, 0, 2);
    await expect(map(other, 1)).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    await expect(firstValueFrom(other.dmaUnmap(range(0, 2)))).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
    await expect(firstValueFrom(port.dmaUnmap(range(0)))).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
    await map(other, 2);
    other.close();
    const whats = (await lastValueFrom(other.released.pipe(toArray()))).map(({ what, error }) => (error === undefined ? what : error));
    expect(whats).toEqual([
      'iova 0x102000+0x1000 left the IOMMU', 'DMA memory of 4096 bytes freed', 'DMA memory of 4096 bytes freed',
      'detached from the IOMMU', 'device fd closed', 'iommufd given back',
    ]);
    await map(port, 2);
    expect(await firstValueFrom(port.dmaUnmap(range(0, 8)))).toBe(3 * page);
    expect(await firstValueFrom(port.dmaUnmap(range(0, 8)))).toBe(0);
  });

  it('maps no area of a device, and says which way does', async () => {
    await using port = await open(mdev.uuid);
    const source = await firstValueFrom(port.map(1, { offset: 0, size: page }));
    await expect(firstValueFrom(port.dmaMap({ ...range(0), source, ...both }))).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED', message: expect.stringContaining("way: 'group'") as string });
    await firstValueFrom(port.unmap(source));
  });

  it('a device that joins gets what is mapped already', async () => {
    await using port = await open(mdev.uuid);
    await map(port, 0, 4);
    using pci = VfioPci.edu();
    const edu = await open(pci.address);
    await expect(map(edu, 3)).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    edu.close();
    await lastValueFrom(edu.released.pipe(toArray()));
  });
});
