import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openByCdev } from '../../../src/devices/kernel/open-by-cdev.js';
import type { OpenedDevice } from '../../../src/devices/kernel/opened-device.js';
import { SharedIommufd } from '../../../src/devices/kernel/shared-iommufd.js';
import * as uapi from '../../../src/devices/uapi/constants.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { callsWith, KernelTree, type IoctlDouble } from './doubles.js';

const name = '0000:03:00.0';
const names = new Map(Object.entries(uapi).flatMap(([key, value]) => (/^(IOMMU_(DESTROY|IOAS|GET_HW|HWPT_ALLOC$)|VFIO_DEVICE_(BIND|ATTACH|DETACH))/.test(key) ? [[value, key] as const] : [])));

let tree: KernelTree;
/** Calls and closes, in order. */
let made: string[];

beforeEach(() => {
  tree = new KernelTree().file('iommu').file('devices/vfio3').device('pci', name, 7, 'vfio-pci').cdev(name, 'vfio3');
  made = [];
});

afterEach(() => {
  expect(tree.open()).toEqual([]);
  tree[Symbol.dispose]();
});

/** A kernel that gives out ids, with one answer changed. `tracks`: its IOMMU does. */
function kernel(odd: Readonly<Record<number, ReturnType<IoctlDouble>>> = {}, { tracks = false, plan = {} }: { readonly tracks?: boolean; readonly plan?: FaultPlan } = {}): () => OpenedDevice {
  const ioctl: IoctlDouble = (request, argument) => {
    made.push(names.get(request) ?? `${request}`);
    if (typeof argument === 'number') return 0;
    const view = new DataView(argument.buffer, argument.byteOffset, argument.byteLength);
    if (request === uapi.IOMMU_IOAS_ALLOC) view.setUint32(8, 2, true);
    if (request === uapi.VFIO_DEVICE_BIND_IOMMUFD) view.setUint32(12, 5, true);
    if (request === uapi.IOMMU_GET_HW_INFO) view.setUint32(32, tracks ? 1 : 0, true);
    if (request === uapi.IOMMU_HWPT_ALLOC) view.setUint32(16, 9, true);
    if (request === uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT) made.push(`to ${view.getUint32(8, true)}`);
    return odd[request] ?? 0;
  };
  const closed = { push: (path: string) => made.push(`close ${path.slice(tree.paths.dev.length + 1)}`) } as unknown as string[];
  const calls = callsWith(ioctl, plan, closed);
  const iommufds = new SharedIommufd(calls, tree.paths);
  return () => openByCdev({ name, group: 7, cdev: 'vfio3' }, iommufds, calls, tree.paths);
}

const released = (opened: OpenedDevice): readonly string[] => {
  const steps: string[] = [];
  opened.release((what, release) => {
    steps.push(what);
    release();
  });
  return steps;
};

describe('a device by its own file', () => {
  it('is bound to the iommufd, attached to its IOAS, and given back in reverse', () => {
    const opened = kernel()();
    expect(made).toEqual(['IOMMU_IOAS_ALLOC', 'VFIO_DEVICE_BIND_IOMMUFD', 'IOMMU_GET_HW_INFO', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'to 2']);
    expect(opened.tracking).toBeUndefined();
    made = [];
    expect(released(opened)).toEqual(['detached from the IOMMU', 'device fd closed', 'iommufd given back']);
    expect(made).toEqual(['VFIO_DEVICE_DETACH_IOMMUFD_PT', 'close devices/vfio3', 'close iommu']);
  });

  it('is attached to a page table of its own where the IOMMU tracks what it writes', () => {
    const opened = kernel({}, { tracks: true })();
    expect(made.slice(2)).toEqual(['IOMMU_GET_HW_INFO', 'IOMMU_HWPT_ALLOC', 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', 'to 9']);
    expect(opened.tracking).toMatchObject({ hwpt: 9 });
    made = [];
    expect(released(opened)).toEqual(['detached from the IOMMU', 'device fd closed', 'page table given back', 'iommufd given back']);
    expect(made).toEqual(['VFIO_DEVICE_DETACH_IOMMUFD_PT', 'close devices/vfio3', 'IOMMU_DESTROY', 'close iommu']);
  });

  it('is attached to the IOAS where another device is in its group, which has one page table for all, but for a bridge', () => {
    tree.device('pci', '0000:03:01.0', 7, 'pcieport');
    released(kernel({}, { tracks: true })());
    expect(made).toContain('to 9');
    made = [];
    tree.device('pci', '0000:03:00.1', 7, 'vfio-pci');
    const opened = kernel({}, { tracks: true })();
    expect([opened.tracking, made.at(-1)]).toEqual([undefined, 'to 2']);
    released(opened);
  });

  it.each([uapi.IOMMU_GET_HW_INFO, uapi.IOMMU_HWPT_ALLOC])('does without where the kernel does not (%d)', (request) => {
    const opened = kernel({ [request]: 'EOPNOTSUPP' }, { tracks: true })();
    expect([opened.tracking, made.at(-1)]).toEqual([undefined, 'to 2']);
    released(opened);
  });

  it('shares iommufd and IOAS with the others of the process', () => {
    tree.file('devices/vfio4');
    const open = kernel();
    const [first, second] = [open(), open()];
    expect(first.space).toBe(second.space);
    expect(made.filter((call) => call === 'IOMMU_IOAS_ALLOC')).toHaveLength(1);
    released(first);
    expect(tree.open().toSorted()).toEqual(['devices/vfio3', 'iommu']);
    released(second);
  });

  it.each([
    ['no iommufd', {}, { open: ['ENOENT'] }, 'VFIO_E_UNAVAILABLE', /way: 'group'/],
    ['its module not loaded', {}, { open: ['ENODEV'] }, 'VFIO_E_UNAVAILABLE', /modprobe iommufd/],
    ['no permission for it', {}, { open: ['EACCES'] }, 'VFIO_E_PERMISSION', /give this user access to .*iommu/],
    ['no fd left', {}, { open: [undefined, 'EMFILE'] }, 'VFIO_E_LIMIT', /ulimit/],
    ['no file of the device', {}, { open: [undefined, 'ENOENT'] }, 'VFIO_E_UNAVAILABLE', /devices\/vfio3/],
    ['no permission for that', {}, { open: [undefined, 'EACCES'] }, 'VFIO_E_PERMISSION', /give this user access to .*vfio3/],
    ['no IOAS', { [uapi.IOMMU_IOAS_ALLOC]: 'ENOMEM' }, {}, 'VFIO_E_LIMIT', /memory/],
    ['its group open', { [uapi.VFIO_DEVICE_BIND_IOMMUFD]: 'EBUSY' }, {}, 'VFIO_E_BUSY', /its group is in use/],
    ['bound by somebody', { [uapi.VFIO_DEVICE_BIND_IOMMUFD]: 'EINVAL' }, {}, 'VFIO_E_BUSY', /open by its own file .*vfio3.* \/proc does not show/],
    ['no interrupt remapping', { [uapi.VFIO_DEVICE_BIND_IOMMUFD]: 'EPERM' }, {}, 'VFIO_E_PERMISSION', /allow_unsafe_interrupts/],
    ['a device that is gone', { [uapi.VFIO_DEVICE_BIND_IOMMUFD]: 'ENODEV' }, {}, 'VFIO_E_NO_DEVICE', /removed/],
    ['an IOMMU that does not take it', { [uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT]: 'EINVAL' }, {}, 'VFIO_E_IO', /VFIO_DEVICE_ATTACH_IOMMUFD_PT/],
  ] as const)('%s: a typed error, and nothing stays open', (_, odd, plan, code, message) => {
    expect(kernel(odd, { plan, tracks: true })).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) as string }));
    expect(tree.open()).toEqual([]);
  });

  it('gives the page table back before the iommufd where attaching fails', () => {
    expect(kernel({ [uapi.VFIO_DEVICE_ATTACH_IOMMUFD_PT]: 'EINVAL' }, { tracks: true })).toThrow();
    expect(made.slice(-3)).toEqual(['close devices/vfio3', 'IOMMU_DESTROY', 'close iommu']);
  });

  it('names the driver that has another device of the group', () => {
    tree.device('pci', '0000:03:00.1', 7, 'snd_hda_intel');
    expect(kernel({ [uapi.VFIO_DEVICE_BIND_IOMMUFD]: 'EBUSY' })).toThrow(expect.objectContaining({ code: 'VFIO_E_GROUP_NOT_VIABLE', message: expect.stringContaining('snd_hda_intel has 0000:03:00.1') as string }));
  });
});
