import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HwptLogging } from '../../src/devices/kernel/hwpt-logging.js';
import { IoasSpace } from '../../src/devices/kernel/ioas-space.js';
import { sharedLanes } from '../../src/devices/linux/lanes.js';
import { mapAnonymous, type MappedMemory } from '../../src/devices/linux/mapped-memory.js';
import { linuxSyscalls } from '../../src/devices/linux/syscalls.js';
import { dirtyRanges } from '../../src/devices/protocol/dirty-pages.js';
import { IOMMU_DESTROY, IOMMU_GET_HW_INFO, IOMMU_HWPT_ALLOC, IOMMU_IOAS_ALLOC } from '../../src/devices/uapi/constants.js';
import { encodeHwInfoQuery, encodeTrackingHwpt, readHwptId, readTracksWrites } from '../../src/devices/uapi/hwpt.js';
import { encodeDestroy, encodeIoasAlloc, readIoasId } from '../../src/devices/uapi/iommufd.js';
import { vfioFds } from '../support/mdev.js';

/**
 * The mock IOMMU of the kernel's own tests (drivers/iommu/iommufd/iommufd_test.h), which works where there is no real one: QEMU has none that tracks writes. Its devices are no VFIO devices, so here is what
 * the port makes of a page table: the calls, in the kernel that answers them.
 */
const mock = { request: 0x3ba0, bytes: 72, replace: 10, withFlags: 12, dirty: 13 } as const;

const page = 4096;
/** The mock's own pages are half as large. */
const mockPage = page / 2;
/** Where its addresses begin. */
const iova = 1n << 24n;
const pages = 64;
const range = { iova, size: pages * page };

const calls = linuxSyscalls();
const lane = sharedLanes().lane('mock');
const caller = { device: 'mock', submit: (request: Parameters<typeof lane.submit>[0]) => lane.submit(request) };

describe('a page table of an IOMMU that tracks writes', () => {
  let iommufd: number;
  let ioas: number;
  let device: number;
  let hwpt: number;
  let memory: MappedMemory;
  let log: HwptLogging;

  const ioctl = (request: number, argument: Uint8Array): Uint8Array => {
    calls.ioctl(iommufd, request, argument, { operation: 'test' });
    return argument;
  };
  const act = (op: number, id: number, ...words: readonly (readonly [at: number, value: number | bigint])[]): DataView => {
    const bytes = new Uint8Array(mock.bytes);
    const view = new DataView(bytes.buffer);
    for (const [at, value] of [[0, mock.bytes], [4, op], [8, id]] as const) view.setUint32(at, value, true);
    for (const [at, value] of words) {
      if (typeof value === 'bigint') view.setBigUint64(at, value, true);
      else view.setUint32(at, value, true);
    }
    ioctl(mock.request, bytes);
    return view;
  };
  /** The mock device writes to pages, counted from the range's first. */
  const write = (...which: readonly number[]): void => {
    const bits = mapAnonymous(page, calls);
    const bytes = new Uint8Array(bits.memory);
    for (const at of which.map((one) => one * 2)) bytes[at >> 3] = (bytes[at >> 3] ?? 0) | (1 << (at & 7));
    act(mock.dirty, hwpt, [16, 0], [24, iova], [32, BigInt(range.size)], [40, BigInt(mockPage)], [48, bits.address]);
    bits.close();
  };
  const report = async (part = range, pageSize: number = page) => [...dirtyRanges({ ...part, pageSize, bits: await firstValueFrom(log.report({ ...part, pageSize })) })].map(({ iova: at, size }) => [Number(at - iova) / page, size / page]);

  beforeEach(async () => {
    iommufd = calls.open('/dev/iommu');
    ioas = readIoasId(ioctl(IOMMU_IOAS_ALLOC, encodeIoasAlloc()));
    const made = act(mock.withFlags, ioas, [28, 0]);
    const mockDevice = made.getUint32(16, true);
    device = made.getUint32(24, true);
    hwpt = readHwptId(ioctl(IOMMU_HWPT_ALLOC, encodeTrackingHwpt(device, ioas)));
    act(mock.replace, mockDevice, [16, hwpt]);
    memory = mapAnonymous(range.size, calls);
    await firstValueFrom(new IoasSpace(iommufd, ioas, calls).map({ ...range, vaddr: memory.address, read: true, write: true }, caller));
    log = new HwptLogging({ iommufd, hwpt }, { ...caller, calls, requireOpen: () => undefined });
  });

  afterEach(() => {
    calls.close(iommufd);
    memory.close();
    expect(vfioFds()).toEqual([]);
  });

  it('is what this IOMMU offers', () => {
    expect(readTracksWrites(ioctl(IOMMU_GET_HW_INFO, encodeHwInfoQuery(device)))).toBe(true);
    expect(() => ioctl(IOMMU_DESTROY, encodeDestroy(hwpt))).toThrow('EBUSY');
  });

  it('tells which pages were written, once', async () => {
    expect(await firstValueFrom(log.start({ ranges: [range], pageSize: page }))).toBe(page);
    expect(await report()).toEqual([]);
    write(0, 1, 5, 63);
    expect(await report()).toEqual([[0, 2], [5, 1], [63, 1]]);
    expect(await report()).toEqual([]);
    write(7);
    expect(await report({ iova, size: 4 * page })).toEqual([]);
    expect(await report({ iova: iova + BigInt(4 * page), size: 4 * page })).toEqual([[7, 1]]);
    await firstValueFrom(log.stop());
  });

  it('tells it in larger pages, too', async () => {
    await firstValueFrom(log.start({ ranges: [range], pageSize: 4 * page }));
    write(5, 63);
    expect(await report(range, 4 * page)).toEqual([[4, 4], [60, 4]]);
    await firstValueFrom(log.stop());
  });

  it('keeps one log at a time, and forgets what was before it', async () => {
    await firstValueFrom(log.start({ ranges: [range], pageSize: page }));
    await expect(firstValueFrom(log.start({ ranges: [range], pageSize: page }))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    write(3);
    await firstValueFrom(log.stop());
    await firstValueFrom(log.start({ ranges: [range], pageSize: page }));
    expect(await report()).toEqual([]);
    await firstValueFrom(log.stop());
  });

  it('tells nothing of what is not mapped', async () => {
    await firstValueFrom(log.start({ ranges: [range], pageSize: page }));
    write(0);
    expect(await report({ iova: iova - BigInt(2 * page), size: 2 * page })).toEqual([]);
    expect(await report({ iova: iova + BigInt(range.size), size: 2 * page })).toEqual([]);
    expect(await report()).toEqual([[0, 1]]);
    await expect(report({ iova, size: 100 })).rejects.toMatchObject({ code: 'VFIO_E_RANGE', errno: undefined });
    await firstValueFrom(log.stop());
  });
});
