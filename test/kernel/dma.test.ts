import { readFileSync, writeFileSync } from 'node:fs';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { listDevices } from '../../src/devices/kernel/discovery.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import { openDevice } from '../../src/devices/open.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { linux } from '../../src/devices/linux/binding.js';
import { linuxSyscalls } from '../../src/devices/linux/syscalls.js';
import type { DevicePort, DmaMapRequest } from '../../src/devices/port.js';
import { VFIO_GROUP_SET_CONTAINER, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU } from '../../src/devices/uapi/constants.js';
import { encodeDmaMap, encodeDmaUnmap, encodeIommuInfoQuery, readIommuInfo, readUnmapped } from '../../src/devices/uapi/dma.js';
import { VfioPci } from '../support/pci.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';

/** A container; cdev-dma.test.ts has what is otherwise with an iommufd. */
const byGroup = { way: 'group' } as const;

const page = 4096;
const entryLimit = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit';
const range = (first: number, pages = 1) => ({ iova: BigInt(0x10_0000 + first * page), size: pages * page });

let mdev: SampleMdev;

beforeEach(() => {
  mdev = new SampleMdev();
});

afterEach(() => {
  expect(mdev.held()).toEqual(nothingHeld);
  expect(vfioFds()).toEqual([]);
  mdev[Symbol.dispose]();
});

const open = (device = mdev): Promise<DevicePort> => firstValueFrom(openKernelPort(device.uuid, realClock, 'group'));

describe('the DMA of a port', () => {
  const both = { read: true, write: true };
  const available = async (port: DevicePort) => (await firstValueFrom(port.dmaLimits())).available;

  it('knows the limits of the container', async () => {
    await using port = await open();
    expect(await firstValueFrom(port.dmaLimits())).toEqual({ pageSizes: 2n ** 64n - 4096n, iovaRanges: undefined, available: 65_535, dirtyPages: expect.anything() as unknown });
  });

  it('takes what the container has entries for', async () => {
    const before = readFileSync(entryLimit, 'utf8');
    writeFileSync(entryLimit, '2');
    try {
      await using port = await open();
      const source = await firstValueFrom(port.allocateDma(4 * page));
      const map = (nth: number) => firstValueFrom(port.dmaMap({ ...range(nth), source, offset: nth * page, ...both }));
      await map(0);
      await map(1);
      await expect(map(2)).rejects.toMatchObject({ code: 'VFIO_E_LIMIT', errno: undefined });
      await firstValueFrom(port.dmaUnmap(range(0)));
      await map(2);
    } finally {
      writeFileSync(entryLimit, before);
    }
  });

  it('is of one address space with the other devices of the process; who closes takes out its own ranges', async () => {
    using second = new SampleMdev();
    await using port = await open();
    const other = await open(second);
    const request = async (of: DevicePort, first: number): Promise<DmaMapRequest> => ({ ...range(first), source: await firstValueFrom(of.allocateDma(page)), ...both });
    await firstValueFrom(port.dmaMap(await request(port, 0)));
    await expect(firstValueFrom(other.dmaMap(await request(other, 0)))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    await expect(firstValueFrom(other.dmaUnmap(range(0)))).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
    await firstValueFrom(other.dmaMap(await request(other, 1)));
    expect(await available(port)).toBe(65_533);
    other.close();
    const whats = (await lastValueFrom(other.released.pipe(toArray()))).map(({ what }) => what);
    expect(whats).toEqual(['iova 0x101000+0x1000 left the IOMMU', 'DMA memory of 4096 bytes freed', 'DMA memory of 4096 bytes freed', 'device fd closed', 'group given back']);
    expect(await available(port)).toBe(65_534);
  });

  it('takes an area in and out, also one that is mapped only in parts', async () => {
    await using port = await open();
    const source = await firstValueFrom(port.map(1, { offset: 0, size: 8 * page }));
    await firstValueFrom(port.dmaMap({ ...range(0, 8), source, ...both }));
    await expect(firstValueFrom(port.unmap(source))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    expect(mdev.number('vmas')).toBe(1);
    expect(await firstValueFrom(port.dmaUnmap(range(0, 8)))).toBe(8 * page);
    await firstValueFrom(port.unmap(source, { offset: 2 * page, size: page }));
    await firstValueFrom(port.dmaMap({ ...range(0, 2), source, ...both }));
    await firstValueFrom(port.dmaMap({ ...range(3, 5), source, offset: 3 * page, ...both }));
    expect(await available(port)).toBe(65_533);
  });
});

describe('an area that is mapped for DMA', () => {
  it('leaves with what its driver revokes, and enters with what it offers again, before each ack', async () => {
    // The unmap is made on a thread of its own, which may have to be started first.
    mdev.write('ack_timeout_ms', 20_000);
    await using device = await firstValueFrom(openDevice(mdev.uuid, byGroup));
    const left = async () => 65_535 - ((await firstValueFrom(device.port.dmaLimits())).available ?? 0);
    const failed: unknown[] = [];
    const serving = remapIrq(device).pipe(remapRegions(device)).subscribe({ error: (error: unknown) => failed.push(error) });
    const hold = await firstValueFrom(device.region(1).mapDma({ offset: 0, size: 0x2_0000 }, { iova: 0x10_0000n, read: true, write: true }));
    const both = [{ iova: 0x10_0000n, size: 0x8000 }, { iova: 0x11_0000n, size: 0x8000 }];
    expect([hold.ranges, await left()]).toEqual([both, 2]);
    await lastValueFrom(transition(device, 'pre-copy'));
    expect([hold.ranges, await left()]).toEqual([[both[0]], 1]);
    await lastValueFrom(transition(device, 'running'));
    expect([hold.ranges, await left()]).toEqual([both, 2]);
    serving.unsubscribe();
    expect([failed, mdev.number('violations')]).toEqual([[], 0]);
  });

  it('of an mdev keeps a PCI device from joining the container, which would have to lock it', async () => {
    using pci = VfioPci.edu();
    const device = await firstValueFrom(openDevice(mdev.uuid, byGroup));
    await firstValueFrom(device.mapRegion(0));
    const hold = await firstValueFrom(device.region(0).mapDma({ offset: 0, size: page }, { iova: 0x10_0000n, read: true, write: true }));
    await expect(firstValueFrom(openDevice(pci.address, byGroup))).rejects.toMatchObject({ errno: 'EFAULT' });
    await firstValueFrom(hold.release());
    const joined = await firstValueFrom(openDevice(pci.address, byGroup));
    await joined.close();
    await device.close();
  });
});

describe('type1v2 by itself: why the library refuses first', () => {
  const calls = linuxSyscalls();
  const names = { operation: 'test' };

  /** A container and a group by hand. */
  class Container implements Disposable {
    readonly fd = calls.open('/dev/vfio/vfio');
    readonly #group: number;
    readonly #address: number;
    readonly vaddr: bigint;

    constructor() {
      const group = listDevices().find(({ name }) => name === mdev.uuid)?.group ?? -1;
      this.#group = calls.open(`/dev/vfio/${group}`);
      calls.ioctl(this.#group, VFIO_GROUP_SET_CONTAINER, Int32Array.of(this.fd), names);
      calls.ioctl(this.fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU, names);
      this.#address = calls.mmap(0, 8 * page, linux.PROT_READ | linux.PROT_WRITE, linux.MAP_PRIVATE | linux.MAP_ANONYMOUS, -1, 0n);
      this.vaddr = BigInt(this.#address);
    }

    map(first: number, pages: number): void {
      calls.ioctl(this.fd, VFIO_IOMMU_MAP_DMA, encodeDmaMap({ ...range(first, pages), vaddr: this.vaddr, read: true, write: true }), names);
    }

    unmap(first: number, pages: number): number {
      const argument = encodeDmaUnmap(range(first, pages));
      calls.ioctl(this.fd, VFIO_IOMMU_UNMAP_DMA, argument, names);
      return readUnmapped(argument, pages * page);
    }

    get available(): number | undefined {
      const answer = encodeIommuInfoQuery(4096);
      calls.ioctl(this.fd, VFIO_IOMMU_GET_INFO, answer, names);
      return readIommuInfo(answer).available;
    }

    munmap(first: number, pages: number): void {
      calls.munmap(this.#address + first * page, pages * page);
    }

    [Symbol.dispose](): void {
      calls.munmap(this.#address, 8 * page);
      calls.close(this.#group);
      calls.close(this.fd);
    }
  }

  it('an overlap is EEXIST, a part of a page EINVAL', () => {
    using container = new Container();
    container.map(0, 2);
    expect(() => container.map(1, 2)).toThrow('EEXIST');
    expect(() => calls.ioctl(container.fd, VFIO_IOMMU_MAP_DMA, encodeDmaMap({ iova: 1n, size: page, vaddr: container.vaddr, read: true, write: true }), names)).toThrow('EINVAL');
    expect(() => calls.ioctl(container.fd, VFIO_IOMMU_MAP_DMA, encodeDmaMap({ ...range(4), vaddr: container.vaddr, read: false, write: false }), names)).toThrow('EINVAL');
  });

  it('no range is cut: an unmap of a part is EINVAL, one over several takes them all', () => {
    using container = new Container();
    container.map(0, 4);
    container.map(6, 2);
    for (const [first, pages] of [[0, 2], [2, 2], [1, 2], [2, 6]] as const) expect(() => container.unmap(first, pages), `${first}+${pages}`).toThrow('EINVAL');
    expect(container.unmap(4, 2)).toBe(0);
    expect(container.unmap(0, 16)).toBe(6 * page);
  });

  it('beyond dma_entry_limit it is ENOSPC', () => {
    const before = readFileSync(entryLimit, 'utf8');
    writeFileSync(entryLimit, '1');
    try {
      using container = new Container();
      container.map(0, 1);
      expect(container.available).toBe(0);
      expect(() => container.map(1, 1)).toThrow('ENOSPC');
    } finally {
      writeFileSync(entryLimit, before);
    }
  });

  it('munmap of a part, or of all, does not mind that it is in the IOMMU, and the range stays: hence the order of a revocation', () => {
    using container = new Container();
    container.map(0, 4);
    container.munmap(1, 1);
    container.munmap(0, 4);
    expect(container.available).toBe(65_534);
    expect(container.unmap(0, 4)).toBe(4 * page);
  });
});
