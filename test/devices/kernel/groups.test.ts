import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { VfioGroups } from '../../../src/devices/kernel/groups.js';
import { VFIO_CHECK_EXTENSION, VFIO_GET_API_VERSION, VFIO_GROUP_GET_DEVICE_FD, VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU } from '../../../src/devices/uapi/constants.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { callsWith, KernelTree, type IoctlDouble } from './doubles.js';

let tree: KernelTree;
let asked: number[];
/** The devices that were asked for. */
let named: string[];
let closed: string[];

beforeEach(() => {
  tree = new KernelTree().file('vfio').file('7').file('8');
  asked = [];
  named = [];
  closed = [];
});

afterEach(() => {
  expect(tree.open()).toEqual([]);
  tree[Symbol.dispose]();
});

/** A kernel that has a viable group, with one answer changed. */
function groups(odd: Readonly<Record<number, ReturnType<IoctlDouble> | (() => ReturnType<IoctlDouble>)>> = {}, plan: FaultPlan = {}, viable = 1): VfioGroups {
  const ioctl: IoctlDouble = (request, argument) => {
    asked.push(request);
    if (request === VFIO_GROUP_GET_DEVICE_FD && typeof argument !== 'number') named.push(Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength).toString());
    if (request === VFIO_GROUP_GET_STATUS && typeof argument !== 'number') new DataView(argument.buffer, argument.byteOffset).setUint32(4, viable, true);
    const answer = odd[request] ?? (request === VFIO_CHECK_EXTENSION ? 1 : 0);
    return typeof answer === 'function' ? answer() : answer;
  };
  return new VfioGroups(callsWith(ioctl, plan, closed), tree.paths);
}

describe('groups', () => {
  it('open one container, set its IOMMU once, and are given back with their last lease, the container last', () => {
    const made = groups();
    const [first, again, other] = [made.lease(7), made.lease(7), made.lease(8)];
    expect(tree.open().toSorted()).toEqual(['7', '8', 'vfio']);
    expect(asked.filter((request) => request === VFIO_SET_IOMMU)).toHaveLength(1);
    expect(asked.filter((request) => request === VFIO_GROUP_SET_CONTAINER)).toHaveLength(2);
    expect(made.size).toBe(2);
    first.release();
    first.release();
    expect(made.size).toBe(2);
    again.release();
    expect(tree.open().toSorted()).toEqual(['8', 'vfio']);
    other.release();
    expect(closed.map((path) => path.slice(tree.paths.dev.length + 1))).toEqual(['7', '8', 'vfio']);
    expect(made.size).toBe(0);
    made.lease(8).release();
    expect(asked.filter((request) => request === VFIO_SET_IOMMU)).toHaveLength(2);
  });

  it.each([
    ['no fd for the container', {}, { open: ['EMFILE'] }, 'VFIO_E_LIMIT', 'EMFILE'],
    ['no fd for the group', {}, { open: [undefined, 'EMFILE'] }, 'VFIO_E_LIMIT', 'EMFILE'],
    ['another process has the group', {}, { open: [undefined, 'EBUSY'] }, 'VFIO_E_BUSY', 'EBUSY'],
    ['the module is not loaded', {}, { open: ['ENODEV'] }, 'VFIO_E_UNAVAILABLE', 'ENODEV'],
    ['no permission', {}, { open: [undefined, 'EACCES'] }, 'VFIO_E_PERMISSION', 'EACCES'],
    ['another version of the API', { [VFIO_GET_API_VERSION]: 1 }, {}, 'VFIO_E_UNAVAILABLE', undefined],
    ['no type1v2', { [VFIO_CHECK_EXTENSION]: 0 }, {}, 'VFIO_E_UNAVAILABLE', undefined],
    ['no status', { [VFIO_GROUP_GET_STATUS]: 'EIO' }, {}, 'VFIO_E_IO', 'EIO'],
    ['no container for it', { [VFIO_GROUP_SET_CONTAINER]: 'EINVAL' }, {}, 'VFIO_E_IO', 'EINVAL'],
    ['no interrupt remapping', { [VFIO_SET_IOMMU]: 'EPERM' }, {}, 'VFIO_E_PERMISSION', 'EPERM'],
  ] as const)('%s: a typed error, and nothing stays open', (_, odd, plan, code, errno) => {
    const made = groups(odd, plan);
    expect(() => made.lease(7, 'the address')).toThrow(expect.objectContaining({ code, errno }));
    expect(tree.open()).toEqual([]);
    expect(made.size).toBe(0);
  });

  it('name the advice for EPERM: it is not about a remap irq', () => {
    expect(() => groups({ [VFIO_SET_IOMMU]: 'EPERM' }).lease(7)).toThrow(/allow_unsafe_interrupts=1 where every user of the device is trusted/);
  });

  it('say which driver holds a device of the group', () => {
    expect(() => groups({}, {}, 0).lease(7, 'group:7')).toThrow(expect.objectContaining({ code: 'VFIO_E_GROUP_NOT_VIABLE', device: 'group:7' }));
  });

  it('say that a group is not there by the address that led to it', () => {
    expect(() => groups().lease(9, 'group:9/0000:03:00.0')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', device: 'group:9/0000:03:00.0' }));
  });

  it('keep the first group when a second one fails', () => {
    const made = groups({}, { open: [undefined, undefined, 'EMFILE'] });
    const first = made.lease(7);
    expect(() => made.lease(8)).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT' }));
    expect(tree.open().toSorted()).toEqual(['7', 'vfio']);
    first.release();
  });

  it('close the container although the group file does not close', () => {
    const made = groups({}, { close: ['EIO'] });
    const lease = made.lease(7);
    expect(() => lease.release()).toThrow(expect.objectContaining({ errno: 'EIO' }));
    // The double's close did not reach the kernel: the group's file is the only one left.
    expect(tree.open()).toEqual(['7']);
    expect(made.size).toBe(0);
    tree.closeLeft();
  });

  it.each([
    ['ENODEV', 'VFIO_E_NO_DEVICE'],
    ['EINVAL', 'VFIO_E_NO_DEVICE'],
    ['EMFILE', 'VFIO_E_LIMIT'],
  ] as const)('a device that is not given out (%s)', (errno, code) => {
    const lease = groups({ [VFIO_GROUP_GET_DEVICE_FD]: errno }).lease(7);
    expect(() => lease.deviceFd('0000:03:00.0')).toThrow(expect.objectContaining({ code, errno, device: '0000:03:00.0' }));
    lease.release();
  });
});

describe('two devices of one group', () => {
  const names = ['0000:03:00.0', '0000:03:01.0'] as const;

  it.each([
    ['the first one first', [0, 1]],
    ['the second one first', [1, 0]],
  ] as const)('share it: one file, one container, given back with the last, %s', (_, order) => {
    const made = groups();
    const leases = names.map((name) => {
      const lease = made.lease(7, name);
      lease.deviceFd(name);
      return lease;
    });
    expect([named, tree.open().toSorted(), asked.filter((request) => request === VFIO_GROUP_SET_CONTAINER).length]).toEqual([names.map((name) => `${name}\0`), ['7', 'vfio'], 1]);
    leases[order[0]]?.release();
    expect(tree.open().toSorted()).toEqual(['7', 'vfio']);
    leases[order[1]]?.release();
    expect(tree.open()).toEqual([]);
  });

  it('the second one that does not open takes nothing from the first', () => {
    const made = groups({ [VFIO_GROUP_GET_DEVICE_FD]: () => (named.length === 1 ? 0 : 'EBUSY') });
    const first = made.lease(7, names[0]);
    first.deviceFd(names[0]);
    const second = made.lease(7, names[1]);
    expect(() => second.deviceFd(names[1])).toThrow(expect.objectContaining({ code: 'VFIO_E_BUSY', device: names[1] }));
    second.release();
    expect(tree.open().toSorted()).toEqual(['7', 'vfio']);
    first.release();
  });
});

describe.each(['EINTR', 'EAGAIN', 'EMFILE', 'ENOMEM', 'EBUSY'] as const)('%s', (errno) => {
  const code = { EINTR: 'VFIO_E_CANCELED', EAGAIN: 'VFIO_E_BUSY', EMFILE: 'VFIO_E_LIMIT', ENOMEM: 'VFIO_E_LIMIT', EBUSY: 'VFIO_E_BUSY' }[errno];

  it.each([VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION, VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU])('of ioctl %d: typed, nothing stays open, and the next one opens', (request) => {
    const good = request === VFIO_CHECK_EXTENSION ? 1 : 0;
    const made = groups({ [request]: () => (asked.filter((one) => one === request).length === 1 ? errno : good) });
    expect(() => made.lease(7)).toThrow(expect.objectContaining({ code, errno }));
    expect([tree.open(), made.size]).toEqual([[], 0]);
    made.lease(7).release();
  });

  it.each([['the container', [errno]], ['the group', [undefined, errno]]] as const)('of open of %s: the same, and an interrupted one is made again', (_, open) => {
    const made = groups({}, { open });
    if (errno !== 'EINTR') expect(() => made.lease(7)).toThrow(expect.objectContaining({ code, errno }));
    expect(tree.open()).toEqual([]);
    made.lease(7).release();
  });
});
