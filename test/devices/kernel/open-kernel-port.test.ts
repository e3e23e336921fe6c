import { chmodSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { parseAddress } from '../../../src/devices/kernel/address.js';
import { findDevice, listDevices, requireVfio } from '../../../src/devices/kernel/discovery.js';
import { openKernelPort, type KernelWay } from '../../../src/devices/kernel/open-kernel-port.js';
import { atOnce } from '../../../src/testing/conformance/port/steps.js';
import { KernelTree } from './doubles.js';

const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const bdf = '0000:03:00.0';

let tree: KernelTree;

beforeEach(() => {
  tree = new KernelTree();
});

afterEach(() => {
  tree[Symbol.dispose]();
});

describe('an address', () => {
  it.each([
    [uuid, { kind: 'mdev', uuid }],
    [uuid.toUpperCase(), { kind: 'mdev', uuid }],
    [bdf, { kind: 'pci', bdf }],
    ['03:00.0', { kind: 'pci', bdf }],
    ['10000:e1:1F.7', { kind: 'pci', bdf: '10000:e1:1f.7' }],
    ['/dev/vfio/devices/vfio3', { kind: 'cdev', cdev: 'vfio3' }],
    ['group:7', { kind: 'group', group: 7, device: undefined }],
    [`group:7/${bdf}`, { kind: 'group', group: 7, device: bdf }],
  ])('%s', (text, address) => {
    expect(parseAddress(text)).toEqual(address);
  });

  it.each(['', 'nonsense', `${uuid}0`, '0000:03:00.8', '0000:03:20.0', 'group:', 'group:x', 'group:7/', 'group:7/../../x y', '/dev/vfio/devices/vfio', '/dev/vfio/devices/../3', '/dev/vfio/3', ` ${bdf}`])('%j is none, and the error carries it', (text) => {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', device: text, message: expect.stringContaining('expected an mdev uuid') as string }));
  });

  it.each([[undefined], [7], [{}]])('%j is none either', (value) => {
    expect(() => parseAddress(value)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS' }));
  });
});

describe('finding a device', () => {
  const found = (address: string) => findDevice(parseAddress(address), tree.paths);

  it('by its bus, by its group, and by both', () => {
    tree.device('mdev', uuid, 3).device('pci', bdf, 4, 'vfio-pci').device('pci', '0000:03:00.1', 4, 'snd_hda_intel');
    expect(found(uuid)).toEqual({ group: 3, name: uuid });
    expect(found('03:00.1')).toEqual({ group: 4, name: '0000:03:00.1' });
    expect(found('group:3')).toEqual({ group: 3, name: uuid });
    expect(found(`group:4/${bdf}`)).toEqual({ group: 4, name: bdf });
    expect(listDevices(tree.paths)).toEqual([
      { kind: 'mdev', group: 3, name: uuid },
      { kind: 'pci', group: 4, name: bdf },
    ]);
  });

  it('by its own file, which each address finds', () => {
    tree.device('pci', bdf, 4, 'vfio-pci').cdev(bdf, 'vfio3');
    for (const address of [bdf, '/dev/vfio/devices/vfio3', 'group:4']) expect(found(address)).toEqual({ group: 4, name: bdf, cdev: 'vfio3' });
    expect(listDevices(tree.paths)).toEqual([{ kind: 'pci', group: 4, name: bdf, cdev: 'vfio3' }]);
    expect(() => found('/dev/vfio/devices/vfio4')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', message: expect.stringContaining('no such device file') as string }));
  });

  it('says what is missing, and for which address', () => {
    tree.device('pci', bdf, undefined, 'vfio-pci').device('pci', '0000:04:00.0', 5).device('pci', '0000:04:00.1', 5);
    const cases = { [uuid]: /no such mdev/, [bdf]: /no IOMMU group/, 'group:9': /no such group/, 'group:5': /it has 2 devices/ };
    for (const [address, message] of Object.entries(cases)) {
      expect(() => found(address)).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', device: address, message: expect.stringMatching(message) as string }));
    }
  });

  it('lists nothing where there is no VFIO', () => {
    expect(listDevices(tree.paths)).toEqual([]);
  });

  it('passes on what it may not look at', () => {
    if (process.getuid?.() === 0) {
      console.log('skipped the check of permissions: root may look at everything');
      return;
    }
    chmodSync(tree.paths.dev, 0o000);
    try {
      expect(() => requireVfio(bdf, tree.paths)).toThrow(expect.objectContaining({ code: 'VFIO_E_PERMISSION' }));
    } finally {
      chmodSync(tree.paths.dev, 0o700);
    }
  });
});

describe('opening', () => {
  const failure = (address: string, way?: KernelWay) => atOnce(openKernelPort(address, realClock, way, tree.paths)).error;

  it.each([uuid, bdf, 'group:7', `group:7/${bdf}`])('%s on a machine without VFIO says that first', (address) => {
    expect(failure(address)).toMatchObject({ code: 'VFIO_E_UNAVAILABLE', device: address, message: expect.stringContaining('modprobe') as string });
  });

  it('says of nonsense that it is nonsense on every machine', () => {
    expect(failure('nonsense')).toMatchObject({ code: 'VFIO_E_ADDRESS', device: 'nonsense' });
  });

  it('says that there is no such device once there is VFIO, and leaves nothing open', () => {
    tree.file('vfio');
    for (const address of [uuid, bdf, 'group:7']) expect(failure(address)).toMatchObject({ code: 'VFIO_E_ADDRESS', device: address });
    expect(tree.open()).toEqual([]);
  });

  it('takes the own file where the machine has it and an iommufd, else the group; or what is asked for', () => {
    tree.file('vfio').file('7').device('pci', bdf, 7, 'vfio-pci').cdev(bdf, 'vfio3').file('devices/vfio3');
    const tried = (address: string, way?: KernelWay) => (failure(address, way) as { operation?: string }).operation;
    expect([tried(bdf), tried(bdf, 'cdev'), tried('/dev/vfio/devices/vfio3')]).toEqual(['VFIO_GET_API_VERSION', 'open', 'open']);
    tree.file('iommu');
    expect([tried(bdf), tried(bdf, 'group'), tried('group:7')]).toEqual(['IOMMU_IOAS_ALLOC', 'VFIO_GET_API_VERSION', 'VFIO_GET_API_VERSION']);
    expect(tree.open()).toEqual([]);
  });

  it('says of each way why it cannot be taken', () => {
    tree.file('vfio').file('noiommu-7').device('pci', bdf, 7, 'vfio-pci');
    expect(failure(bdf, 'cdev')).toMatchObject({ code: 'VFIO_E_UNAVAILABLE', message: expect.stringContaining('CONFIG_VFIO_DEVICE_CDEV') as string });
    expect(failure(bdf)).toMatchObject({ code: 'VFIO_E_UNAVAILABLE', message: expect.stringContaining("way: 'noiommu'") as string });
    expect(failure(bdf, 'noiommu')).toMatchObject({ operation: 'VFIO_GET_API_VERSION' });
  });

  it('passes on what is no VFIO container, and leaves nothing open', () => {
    tree.file('vfio').file('7').device('pci', bdf, 7, 'vfio-pci');
    expect(failure(bdf)).toMatchObject({ code: 'VFIO_E_UNSUPPORTED', errno: 'ENOTTY', operation: 'VFIO_GET_API_VERSION' });
    expect(tree.open()).toEqual([]);
  });
});
