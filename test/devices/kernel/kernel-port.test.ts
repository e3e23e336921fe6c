import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import type { Mapping, ReleaseReport } from '../../../src/devices/port.js';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO, VFIO_DEVICE_SET_IRQS, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE } from '../../../src/devices/uapi/constants.js';
import { errnoError } from '../../../src/errors.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';
import { fields } from '../uapi/bytes-helpers.js';
import { regionInfo } from '../uapi/encoders.js';
import { callsWith, HandLanes, type IoctlDouble, KernelTree, openedAs, outcome } from './doubles.js';

const page = koffiBinding().pageSize;
const area = { offset: 0, size: page };

let tree: KernelTree;
let lanes: HandLanes;
let clock: VirtualClock;
let asked: number[];
let leases: number;
let reports: ReleaseReport[];
let completed: boolean;

beforeEach(() => {
  tree = new KernelTree().file('device').file('data');
  lanes = new HandLanes();
  clock = virtualClock();
  asked = [];
  leases = 1;
  reports = [];
  completed = false;
});

afterEach(() => {
  tree[Symbol.dispose]();
});

/** A device of one region that can migrate (STOP_COPY, P2P, PRE_COPY). */
function opened(plan: FaultPlan = {}, odd: IoctlDouble = () => 0): { readonly port: KernelPort; readonly dataFd: () => number } {
  const ioctl: IoctlDouble = (request, argument, fd) => {
    asked.push(request);
    if (typeof argument === 'number') return odd(request, argument, fd);
    const bytes = new Uint8Array(argument.buffer, argument.byteOffset, argument.byteLength);
    if (request === VFIO_DEVICE_GET_REGION_INFO) bytes.set(regionInfo({ index: 0, flags: 7, size: 16 * page, offset: 0 }));
    if (request === VFIO_DEVICE_GET_IRQ_INFO) {
      bytes.set(fields(['u32', VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE]), 4);
      bytes.set(fields(['u32', 2]), 12);
    }
    if (request === VFIO_DEVICE_FEATURE && bytes.length > 8) bytes.set(fields(['u64', 7]), 8);
    return odd(request, argument, fd);
  };
  const calls = callsWith(ioctl, plan);
  const port = new KernelPort(openedAs('d0', calls.open(join(tree.paths.dev, 'device')), calls, { released: () => (leases -= 1) }), { calls, reactor: new Reactor(calls), pool: lanes, clock });
  port.released.subscribe({ next: (report) => reports.push(report), error: () => (completed = false), complete: () => (completed = true) });
  return { port, dataFd: () => calls.open(join(tree.paths.dev, 'data')) };
}

const state = { running: 2, 'stop-copy': 3, 'pre-copy': 6 } as const;
/** The answer to a GET or SET of device_state. */
const stateBytes = (name: keyof typeof state, dataFd = -1): Uint8Array => fields(['u32', 16], ['u32', 2], ['u32', state[name]], ['u32', dataFd >>> 0]);
const whats = () => reports.map(({ what }) => what);

describe('closing with calls out', () => {
  it('keeps the fd until a call that is stuck has returned, and withdraws what waits behind it', () => {
    const { port } = opened();
    const access = { region: 0, offset: 0, readBytes: 4 };
    const [running, waiting] = [outcome(port.access(access)), outcome(port.access(access))];
    const mapping = outcome(port.map(0, area)).value;
    port.close();
    clock.advanceMs(9999);
    expect(reports).toEqual([]);
    expect(lanes.out).toEqual({ [Object.keys(lanes.out)[0] ?? '']: 2 });
    clock.advanceMs(1);
    expect(reports).toEqual([{ what: 'call stuck', error: expect.objectContaining({ code: 'VFIO_E_DEADLINE', device: 'd0' }) as unknown }]);
    expect([running.get, waiting.get]).toEqual(['open', 'VFIO_E_CLOSED']);
    clock.advanceMs(3_600_000);
    expect([completed, leases, tree.open()]).toEqual([false, 1, ['device']]);
    expect(mapsOf(mapping)).toContain('device');
    lanes.answer(':access', 4, new Uint8Array(4));
    expect(running.get).toBe('done');
    expect(whats()).toEqual(['call stuck', 'stuck call returned', `region 0 0x0+0x${page.toString(16)} unmapped`, 'address space given back', 'device fd closed', 'group given back']);
    expect([completed, leases, tree.open(), mapsOf(mapping)]).toEqual([true, 0, [], '']);
  });

  it('waits for a blocked call of a data_fd, and says that it is closed when it is', () => {
    const { port, dataFd } = opened();
    const set = outcome(port.setState('stop-copy'));
    lanes.answer(':state', 0, stateBytes('running'));
    lanes.answer(':state', 0, stateBytes('stop-copy', dataFd()));
    const read = outcome<unknown>(set.value?.data?.read(8) ?? port.info());
    port.close();
    expect([reports, tree.open()]).toEqual([[], ['device', 'data']]);
    expect(outcome<unknown>(set.value?.data?.read(8) ?? port.info()).get).toBe('VFIO_E_CLOSED');
    lanes.answer(':data:' + String(fdOfData()), 1, Uint8Array.of(7));
    expect(read.get).toBe('done');
    expect(whats()).toEqual(['data_fd closed', 'device fd closed', 'group given back']);
    expect([completed, tree.open()]).toEqual([true, []]);
  });

  it('makes no further call for a setState that was at its first one', () => {
    const { port } = opened();
    const set = outcome(port.setState('stop-copy'));
    port.close();
    asked.length = 0;
    lanes.answer(':state', 0, stateBytes('running'));
    expect([set.get, asked, lanes.out, completed]).toEqual(['VFIO_E_CLOSED', [], {}, true]);
  });

  it('closes the data_fd that a detached write brings home late', () => {
    const { port, dataFd } = opened();
    const detached = port.setState('stop-copy').subscribe();
    lanes.answer(':state', 0, stateBytes('running'));
    detached.unsubscribe();
    port.close();
    lanes.answer(':state', 0, stateBytes('stop-copy', dataFd()));
    expect([completed, tree.open()]).toEqual([true, []]);
  });

  it('a second open of the same device does not queue behind the blocked write of the first', () => {
    const [first, second] = [opened().port, opened().port];
    first.getState().subscribe();
    second.getState().subscribe();
    expect(Object.values(lanes.out)).toEqual([1, 1]);
    for (const port of [first, second]) {
      port.close();
      lanes.answer(':state', 0, stateBytes('running'));
    }
    expect(tree.open()).toEqual([]);
  });
});

describe('closing when a step fails', () => {
  it('takes the other mappings, the fd and the group all the same', () => {
    // Each mapping is a reservation and the device; then the first revocation finds no room, in three ways.
    const { port } = opened({ mmap: [undefined, undefined, undefined, undefined, 'EIO'] });
    const mappings = [outcome(port.map(0, area)).value, outcome(port.map(0, { offset: page, size: page })).value];
    port.close();
    const failed = reports.filter(({ error }) => error !== undefined);
    expect(failed).toEqual([{ what: expect.stringContaining('region 0 0x0+') as string, error: expect.objectContaining({ errno: 'EIO' }) as unknown }]);
    expect([completed, leases, tree.open(), mappings.map(mapsOf)]).toEqual([true, 0, [], ['', '']]);
  });

  it('a device that is gone', () => {
    let gone = false;
    const { port } = opened({}, () => (gone ? 'ENODEV' : 0));
    outcome(port.irq({ index: 1 }));
    gone = true;
    expect(outcome(port.regionInfo(0)).get).toBe('VFIO_E_NO_DEVICE');
    expect(outcome(port.map(0, area)).get).toBe('VFIO_E_NO_DEVICE');
    expect(outcome(port.irq({ index: 5 }, { ackFd: true })).get).toBe('VFIO_E_NO_DEVICE');
    port.close();
    expect(reports[0]).toMatchObject({ what: 'irq 1 disabled', error: { errno: 'ENODEV' } });
    expect([completed, leases, tree.open()]).toEqual([true, 0, []]);
  });
});

describe('irqs', () => {
  it('fewer vectors than were asked for is no success: the kernel says how many there are', () => {
    const { port } = opened({}, (request) => (request === VFIO_DEVICE_SET_IRQS ? 1 : 0));
    const failed = outcome(port.irqs(1, [0, 1]));
    expect(failed.get).toBe('VFIO_E_LIMIT');
    port.close();
    expect(reports.map(({ what }) => what)).not.toContain('irq 1 disabled');
  });

  it('EINVAL is an irq that the device does not have, or does not take now', () => {
    const { port } = opened({}, (request) => (request === VFIO_DEVICE_SET_IRQS ? 'EINVAL' : 0));
    expect(outcome(port.irq({ index: 1 })).get).toBe('VFIO_E_NO_IRQ');
    port.close();
  });

  it('every vector is given back at the close, the last with its index', () => {
    const { port } = opened();
    outcome(port.irqs(1, [1, 0]));
    port.close();
    expect(reports.slice(0, 2)).toEqual([{ what: 'irq 1, vector 1, disabled' }, { what: 'irq 1 disabled' }]);
  });
});

describe('device_state', () => {
  it('EPERM is the vendor driver that refuses; the flags are asked for once', () => {
    const { port } = opened();
    for (const to of ['pre-copy', 'stop-copy'] as const) {
      const set = outcome(port.setState(to));
      lanes.answer(':state', 0, stateBytes('running'));
      lanes.fail(':state', errnoError('EPERM', `device_state ${to}`, 'd0'));
      expect(set.get).toBe('VFIO_E_REFUSED');
    }
    // And once it opts in to those of PRECOPY_INFO.
    expect(asked.filter((request) => request === VFIO_DEVICE_FEATURE)).toHaveLength(2);
    const get = outcome(port.getState());
    lanes.fail(':state', errnoError('EPERM', 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE', 'd0'));
    expect(get.get).toBe('VFIO_E_PERMISSION');
    port.close();
  });
});

describe('address space', () => {
  it('is used again for the same area, so that remaps do not make it grow', () => {
    const { port } = opened();
    const first = outcome(port.map(0, area)).value;
    const stale = new Uint8Array(first?.memory ?? new ArrayBuffer(1));
    const addresses = new Set([first?.address]);
    for (let round = 0; round < 200; round += 1) {
      const live: Mapping | undefined = round === 0 ? first : outcome(port.map(0, area)).value;
      addresses.add(live?.address);
      if (live !== undefined) outcome(port.unmap(live));
      // However long ago its area went: a stale view neither faults nor reaches the device.
      stale[0] = 1;
      expect(mapsOf(first)).not.toContain('device');
    }
    expect(addresses.size).toBe(1);
    expect(readFileSync(join(tree.paths.dev, 'device'))[0]).toBe(0);
    port.close();
    expect(mapsOf(first)).toBe('');
  });

  it('of an area that was mapped twice, or of another size, stands beside it', () => {
    const { port } = opened();
    const [one, two, larger] = [outcome(port.map(0, area)).value, outcome(port.map(0, area)).value, outcome(port.map(0, { offset: 0, size: 2 * page })).value];
    for (const mapping of [one, two, larger]) if (mapping !== undefined) outcome(port.unmap(mapping));
    const again = [outcome(port.map(0, area)).value, outcome(port.map(0, area)).value];
    expect(again.map((mapping) => mapping?.address).toSorted()).toEqual([one?.address, two?.address].toSorted());
    expect(new Set([one?.address, two?.address, larger?.address]).size).toBe(3);
    port.close({ keepViews: true });
    expect(mapsOf(one)).not.toBe('');
    expect(mapsOf(one)).not.toContain('device');
    for (const mapping of [one, two, larger]) koffiBinding().munmap(Number(mapping?.address), mapping?.area.size ?? 0);
  });
});

/** Which mapping of this process holds the first byte: its line of /proc/self/maps, or nothing. */
function mapsOf(mapping: Mapping | undefined): string {
  const address = mapping?.address ?? 0n;
  const line = readFileSync('/proc/self/maps', 'utf8').split('\n').find((text) => {
    const [from, to] = (text.split(' ')[0] ?? '').split('-').map((hex) => BigInt(`0x${hex === '' ? '0' : hex}`));
    return from !== undefined && to !== undefined && from <= address && address < to;
  });
  return line?.replace(tree.paths.dev, '') ?? '';
}

function fdOfData(): number {
  const lane = Object.keys(lanes.out).find((name) => name.includes(':data:')) ?? '';
  return Number(lane.split(':').at(-1));
}
