import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContainerSpace } from '../../../src/devices/kernel/container-space.js';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import type { DmaMemory, IovaRange, Mapping, ReleaseReport } from '../../../src/devices/port.js';
import { VFIO_DEVICE_GET_REGION_INFO, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA } from '../../../src/devices/uapi/constants.js';
import { errnoError } from '../../../src/errors.js';
import { now } from '../../support/devices.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';
import { fields } from '../uapi/bytes-helpers.js';
import { iommuInfo, iovaRanges, regionInfo } from '../uapi/encoders.js';
import { callsWith, HandLanes, KernelTree, openedAs, outcome } from './doubles.js';

const page = koffiBinding().pageSize;
const area = { offset: 0, size: 4 * page };
const container = 77;

let tree: KernelTree;
let lanes: HandLanes;
let clock: VirtualClock;
let reports: ReleaseReport[];
let given: number;

beforeEach(() => {
  tree = new KernelTree().file('device');
  lanes = new HandLanes();
  clock = virtualClock();
  reports = [];
  given = 0;
});

afterEach(() => {
  tree[Symbol.dispose]();
});

function opened(plan: FaultPlan = {}, space = new ContainerSpace(container)): KernelPort {
  const calls = callsWith((request, argument) => {
    if (request === VFIO_DEVICE_GET_REGION_INFO && typeof argument !== 'number') {
      new Uint8Array(argument.buffer, argument.byteOffset, argument.byteLength).set(regionInfo({ index: 0, flags: 7, size: 16 * page, offset: 0 }));
    }
    return 0;
  }, plan);
  const lease = { ...openedAs('d0', calls.open(join(tree.paths.dev, 'device')), calls, { released: () => (given += 1) }), space };
  const port = new KernelPort(lease, { calls, reactor: new Reactor(calls), pool: lanes, clock });
  port.released.subscribe({ next: (report) => reports.push(report), error: () => (reports = []) });
  return port;
}

const range = (first: number, pages = 1): IovaRange => ({ iova: BigInt(first * page), size: pages * page });
const whats = () => reports.map(({ what }) => what);
const asked = (): string => {
  const request = lanes.running(':dma');
  if (request.op !== 'ioctl' || request.fd !== container) return 'something else';
  return { [VFIO_IOMMU_GET_INFO]: 'info', [VFIO_IOMMU_MAP_DMA]: 'map', [VFIO_IOMMU_UNMAP_DMA]: 'unmap' }[request.request] ?? 'something else';
};
const argument = (): Uint8Array => {
  const request = lanes.running(':dma');
  return request.op === 'ioctl' && typeof request.argument !== 'number' ? request.argument : new Uint8Array(0);
};
/** The kernel's answers. */
const tell = {
  limits: (ranges: readonly (readonly [bigint, bigint])[] = [[0n, 2n ** 40n]], available = 8) => lanes.answer(':dma', 0, iommuInfo({ pageSizes: BigInt(page), capabilities: [iovaRanges(ranges), { id: 3, payload: fields(['u32', available]) }] })),
  mapped: () => lanes.answer(':dma', 0, argument()),
  unmapped: (bytes: number) => lanes.answer(':dma', 0, fields(['u32', 24], ['u32', 0], ['u64', 0], ['u64', bytes])),
};

/** Two pages of memory, of which `range(0, 2)` is mapped. */
function mappedMemory(port: KernelPort): DmaMemory {
  const source = now(port.allocateDma(2 * page));
  port.dmaMap({ ...range(0, 2), source, read: true, write: false }).subscribe();
  tell.limits();
  tell.mapped();
  return source;
}

function mappedArea(port: KernelPort): Mapping {
  const source = now(port.map(0, area));
  port.dmaMap({ ...range(8, 2), source, offset: 2 * page, read: true, write: true }).subscribe();
  tell.limits();
  tell.mapped();
  return source;
}

describe('dmaMap', () => {
  it('asks for the limits, then maps where the memory is', () => {
    const port = opened();
    const source = now(port.allocateDma(2 * page));
    const map = outcome(port.dmaMap({ ...range(3), source, offset: page, read: true, write: true }));
    expect([asked(), argument().length]).toEqual(['info', 256]);
    tell.limits();
    expect(asked()).toBe('map');
    const [vaddr, iova, size] = new BigUint64Array(argument().slice().buffer).subarray(1);
    expect([iova, size, argument()[4]]).toEqual([BigInt(3 * page), BigInt(page), 3]);
    new Uint8Array(source.memory)[page] = 0x5a;
    expect(new Uint8Array(koffiBinding().view(Number(vaddr), page))[0]).toBe(0x5a);
    tell.mapped();
    expect(map.value).toEqual(range(3));
  });

  it('maps an area where it lies in this process', () => {
    const port = opened();
    const mapping = now(port.map(0, area));
    port.dmaMap({ ...range(0), source: mapping, offset: page, read: true, write: true }).subscribe();
    tell.limits();
    expect(new BigUint64Array(argument().slice().buffer)[1]).toBe((mapping.address ?? 0n) + BigInt(page));
  });

  it('asks again where the limits need more room, and not for ever', () => {
    const port = opened();
    const limits = outcome(port.dmaLimits());
    for (let bytes = 300; bytes < 308; bytes += 1) {
      lanes.answer(':dma', 0, fields(['u32', bytes], ['u32', 3], ['u64', page], ['u64', 0]));
      if (bytes < 307) expect(argument().length).toBe(bytes);
    }
    expect(limits.get).toBe('VFIO_E_PROTOCOL');
    const next = outcome(port.dmaLimits());
    lanes.answer(':dma', 0, fields(['u32', 1 << 20], ['u32', 3], ['u64', page], ['u64', 0]));
    expect(next.get).toBe('VFIO_E_PROTOCOL');
  });

  it.each([
    ['addresses that the IOMMU does not have', [[0n, 0xfffn]], 8, 'VFIO_E_RANGE'],
    ['no entry left', [[0n, 2n ** 40n]], 0, 'VFIO_E_LIMIT'],
  ] as const)('is refused before the kernel is asked: %s', (_, ranges, available, code) => {
    const port = opened();
    const source = now(port.allocateDma(page));
    const map = outcome(port.dmaMap({ ...range(1), source, read: true, write: true }));
    tell.limits(ranges, available);
    expect([map.get, lanes.out]).toEqual([code, {}]);
    expect(outcome(source.free()).get).toBe('done');
  });

  it.each([
    ['EEXIST', 'VFIO_E_BUSY'], ['ENOSPC', 'VFIO_E_LIMIT'], ['ENOMEM', 'VFIO_E_LIMIT'], ['EINVAL', 'VFIO_E_RANGE'], ['EFAULT', 'VFIO_E_UNSUPPORTED'],
    ['EINTR', 'VFIO_E_CANCELED'], ['EAGAIN', 'VFIO_E_BUSY'], ['EMFILE', 'VFIO_E_LIMIT'], ['EBUSY', 'VFIO_E_BUSY'],
  ])('%s of the kernel is %s, and leaves nothing', (errno, code) => {
    const port = opened();
    const source = now(port.allocateDma(page));
    const map = outcome(port.dmaMap({ ...range(0), source, read: true, write: true }));
    tell.limits();
    lanes.fail(':dma', errnoError(errno, 'VFIO_IOMMU_MAP_DMA', 'd0'));
    expect(map.get).toBe(code);
    // The range is free, and so is the memory.
    port.dmaMap({ ...range(0), source, read: true, write: true }).subscribe({ error: () => undefined });
    lanes.fail(':dma', errnoError(errno, 'VFIO_IOMMU_GET_INFO', 'd0'));
    expect([outcome(source.free()).get, lanes.out]).toEqual(['done', {}]);
  });

  it('goes on whoever listens, and holds its range and its memory meanwhile', () => {
    const port = opened();
    const source = now(port.allocateDma(page));
    const detached = port.dmaMap({ ...range(0), source, read: true, write: true }).subscribe();
    detached.unsubscribe();
    expect([outcome(source.free()).get, outcome(port.dmaMap({ ...range(0), source, read: true, write: true })).get]).toEqual(['VFIO_E_BUSY', 'VFIO_E_BUSY']);
    const unmap = outcome(port.dmaUnmap(range(0)));
    tell.limits();
    expect(asked()).toBe('map');
    tell.mapped();
    expect(asked()).toBe('unmap');
    tell.unmapped(page);
    expect([unmap.value, outcome(source.free()).get]).toEqual([page, 'done']);
  });
});

describe('dmaUnmap', () => {
  it('takes every range inside, one call each; two who ask for the same are both served', () => {
    const port = opened();
    mappedMemory(port);
    mappedArea(port);
    const [one, two] = [outcome(port.dmaUnmap(range(0, 16))), outcome(port.dmaUnmap(range(0, 2)))];
    for (const bytes of [2 * page, 0, 2 * page]) {
      expect(asked()).toBe('unmap');
      tell.unmapped(bytes);
    }
    expect([one.value, two.value, lanes.out]).toEqual([4 * page, 0, {}]);
  });

  it('fails where less went than was there: that must not be munmapped', () => {
    const port = opened();
    const mapping = mappedArea(port);
    const unmap = outcome(port.dmaUnmap(range(8, 2)));
    tell.unmapped(page);
    expect([unmap.get, outcome(port.unmap(mapping)).get]).toEqual(['VFIO_E_PROTOCOL', 'VFIO_E_BUSY']);
    const more = outcome(port.dmaUnmap(range(8, 2)));
    tell.unmapped(3 * page);
    expect(more.get).toBe('VFIO_E_PROTOCOL');
  });

  it('does not take what another device of the process has mapped', () => {
    const space = new ContainerSpace(container);
    const [port, other] = [opened({}, space), opened({}, space)];
    mappedMemory(port);
    expect([outcome(other.dmaUnmap(range(0, 2))).get, lanes.out]).toEqual(['VFIO_E_RANGE', {}]);
    expect(outcome(other.dmaMap({ ...range(1), source: now(other.allocateDma(page)), read: true, write: true })).get).toBe('VFIO_E_BUSY');
  });
});

describe('close', () => {
  it('takes the ranges out, then the areas, then the memory', () => {
    const port = opened();
    mappedMemory(port);
    mappedArea(port);
    port.close();
    tell.unmapped(2 * page);
    expect(given).toBe(0);
    tell.unmapped(2 * page);
    expect(whats()).toEqual([
      'iova 0x0+0x2000 left the IOMMU', 'iova 0x8000+0x2000 left the IOMMU', 'region 0 0x0+0x4000 unmapped', 'address space given back',
      'DMA memory of 8192 bytes freed', 'device fd closed', 'group given back',
    ]);
    expect([given, tree.open()]).toEqual([1, []]);
  });

  it('while a map is under way: it ends before the kernel is asked, or is taken out again', () => {
    const [before, after] = [opened(), opened()];
    const source = now(before.allocateDma(page));
    const map = outcome(before.dmaMap({ ...range(0), source, read: true, write: true }));
    before.close();
    tell.limits();
    expect([map.get, lanes.out, given]).toEqual(['VFIO_E_CLOSED', {}, 1]);
    const second = outcome(after.dmaMap({ ...range(0), source: now(after.allocateDma(page)), read: true, write: true }));
    tell.limits();
    after.close();
    tell.mapped();
    expect([second.get, asked()]).toEqual(['done', 'unmap']);
    tell.unmapped(page);
    expect(given).toBe(2);
  });

  it('keeps memory that does not leave the IOMMU, and says so; an unmap that is stuck is waited for', () => {
    const port = opened();
    const memory = mappedMemory(port);
    mappedArea(port);
    port.close();
    clock.advanceMs(10_000);
    expect(reports).toEqual([{ what: 'call stuck', error: expect.objectContaining({ code: 'VFIO_E_DEADLINE' }) as unknown }]);
    lanes.fail(':dma', errnoError('EIO', 'VFIO_IOMMU_UNMAP_DMA', 'd0'));
    // The next one is made all the same.
    tell.unmapped(2 * page);
    const failed = reports.filter(({ error }) => error !== undefined).map(({ what, error }) => [what, (error as { code?: string }).code]);
    expect(failed).toEqual([
      ['call stuck', 'VFIO_E_DEADLINE'], ['iova 0x0+0x2000 left the IOMMU', 'VFIO_E_IO'], ['DMA memory of 8192 bytes freed', 'VFIO_E_BUSY'],
    ]);
    expect([given, tree.open(), new Uint8Array(memory.memory)[0]]).toEqual([1, [], 0]);
  });

  it('leaves mapped an area that does not leave the IOMMU, and says so', () => {
    const port = opened();
    const mapping = mappedArea(port);
    port.close();
    lanes.fail(':dma', errnoError('EIO', 'VFIO_IOMMU_UNMAP_DMA', 'd0'));
    expect(whats()).toEqual(['iova 0x8000+0x2000 left the IOMMU', 'region 0 0x0+0x4000 unmapped', 'device fd closed', 'group given back']);
    expect(reports.map(({ error }) => (error as { code?: string } | undefined)?.code)).toEqual(['VFIO_E_IO', 'VFIO_E_BUSY', undefined, undefined]);
    expect(maps()).toContain('device');
    koffiBinding().munmap(Number(mapping.address), area.size);
  });
});

describe('memory', () => {
  it('is whole pages, and is not copied into a child', () => {
    const port = opened({ madvise: ['ENOMEM'] });
    for (const bytes of [0, 100, -page, page + 1, NaN, 2 ** 53]) expect(outcome(port.allocateDma(bytes)).get).toBe('VFIO_E_RANGE');
    expect(outcome(port.allocateDma(page)).get).toBe('VFIO_E_LIMIT');
    const before = maps();
    const memory = now(port.allocateDma(64 * page));
    expect(maps()).not.toBe(before);
    expect(smaps(memory)).toMatch(/VmFlags:.* dc/);
    port.close();
  });

  it('that is freed gives its pages back at once; a view of it neither faults nor keeps them', () => {
    const port = opened();
    const memory = now(port.allocateDma(64 * page));
    const view = new Uint8Array(memory.memory).fill(1);
    expect(smaps(memory)).toMatch(/Rss: +256 kB/);
    now(memory.free());
    expect(smaps(memory)).toMatch(/Rss: +0 kB/);
    expect([view[0], (view[0] = 5), outcome(memory.free()).get]).toEqual([0, 5, 'done']);
    port.close();
  });

  it('for which there is no room is VFIO_E_LIMIT, and leaves nothing', () => {
    const port = opened({ mmap: ['ENOMEM', undefined, 'EAGAIN'] });
    const kilobytes = () => Number(/^VmSize:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
    const before = kilobytes();
    const huge = 2 ** 30;
    expect([outcome(port.allocateDma(huge)).get, outcome(port.allocateDma(huge)).get]).toEqual(['VFIO_E_LIMIT', 'VFIO_E_LIMIT']);
    expect(kilobytes() - before).toBeLessThan(huge / 1024);
    port.close();
  });
});

function maps(): string {
  return readFileSync('/proc/self/maps', 'utf8');
}

/** What the kernel says of the mapping that the memory lies in. */
function smaps(memory: DmaMemory): string {
  const address = BigInt(koffiBinding().addressOf(new Uint8Array(memory.memory)));
  const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return mappings.find((text) => {
    const [from = '0', to = '0'] = (text.split(' ')[0] ?? '').split('-');
    return BigInt(`0x${from}`) <= address && address < BigInt(`0x${to}`);
  }) ?? '';
}
