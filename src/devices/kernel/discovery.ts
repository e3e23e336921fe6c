import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { errnoError, VfioError } from '../../errors.js';
import type { KernelAddress } from './address.js';

/** Where sysfs and the VFIO files are; tests put a tree of their own here. */
export interface KernelPaths {
  readonly sys: string;
  readonly dev: string;
}

export const kernelPaths: KernelPaths = { sys: '/sys', dev: '/dev/vfio' };

/** What VFIO_GROUP_GET_DEVICE_FD needs. */
export interface FoundDevice {
  readonly group: number;
  /** The device's name within its group: a BDF or an mdev uuid. */
  readonly name: string;
}

/** One device that a VFIO driver holds. */
export interface ListedDevice extends FoundDevice {
  readonly kind: 'mdev' | 'pci';
}

/**
 * Where VFIO is missing that is said first: "no such mdev" would send people looking for the wrong thing.
 * Fails with VFIO_E_UNAVAILABLE.
 */
export function requireVfio(device: string, paths: KernelPaths = kernelPaths): void {
  if (absent(join(paths.dev, 'vfio'), (path) => statSync(path)) !== undefined) return;
  throw new VfioError('VFIO_E_UNAVAILABLE', noVfio, { operation: 'open', device });
}

export const noVfio = 'this machine offers no VFIO: load it with modprobe vfio_iommu_type1 (and the bus driver), or use a software device';

/** Finds the IOMMU group of an address through sysfs. Fails with VFIO_E_ADDRESS, saying what is missing. */
export function findDevice(address: KernelAddress, paths: KernelPaths = kernelPaths): FoundDevice {
  if (address.kind === 'group') return { group: address.group, name: address.device ?? onlyDevice(address.group, paths) };
  const [name, directory] = address.kind === 'mdev' ? [address.uuid, 'bus/mdev/devices'] : [address.bdf, 'bus/pci/devices'];
  const group = groupOf(join(paths.sys, directory, name));
  if (group !== undefined) return { group, name };
  const advice =
    address.kind === 'mdev'
      ? 'no such mdev, or it has no IOMMU group: create it through mdev_supported_types of its parent'
      : 'no such PCI function, or it has no IOMMU group: check the address, and that the kernel runs with an IOMMU (intel_iommu=on)';
  throw new VfioError('VFIO_E_ADDRESS', advice, { operation: 'find device', device: name });
}

/** Every device of this machine that could be opened: mdevs, and PCI functions bound to a VFIO driver. Empty where there is no VFIO. */
export function listDevices(paths: KernelPaths = kernelPaths): readonly ListedDevice[] {
  const mdevs = inGroups(join(paths.sys, 'bus/mdev/devices'), entries(join(paths.sys, 'bus/mdev/devices')));
  const pciNames = entries(join(paths.sys, 'bus/pci/devices')).filter((name) => driverOf(join(paths.sys, 'bus/pci/devices', name))?.includes('vfio') === true);
  const pcis = inGroups(join(paths.sys, 'bus/pci/devices'), pciNames);
  return [...mdevs.map((device) => ({ kind: 'mdev' as const, ...device })), ...pcis.map((device) => ({ kind: 'pci' as const, ...device }))];
}

function inGroups(directory: string, names: readonly string[]): readonly FoundDevice[] {
  return names.flatMap((name) => {
    const group = groupOf(join(directory, name));
    return group === undefined ? [] : [{ group, name }];
  });
}

function onlyDevice(group: number, paths: KernelPaths): string {
  const names = entries(join(paths.sys, 'kernel/iommu_groups', String(group), 'devices'));
  const [name] = names;
  if (name !== undefined && names.length === 1) return name;
  const why = name === undefined ? 'no such group, or it is empty' : `it has ${names.length} devices: say which, as group:${group}/${name}`;
  throw new VfioError('VFIO_E_ADDRESS', why, { operation: 'find device', device: `group:${group}` });
}

function groupOf(device: string): number | undefined {
  const group = linkName(join(device, 'iommu_group'));
  return group !== undefined && /^\d+$/.test(group) ? Number(group) : undefined;
}

function driverOf(device: string): string | undefined {
  return linkName(join(device, 'driver'));
}

function linkName(path: string): string | undefined {
  return absent(path, () => basename(readlinkSync(path)));
}

function entries(path: string): readonly string[] {
  return absent(path, () => readdirSync(path)) ?? [];
}

/** ENOENT is an answer here; anything else is an error. */
function absent<T>(path: string, read: (path: string) => T): T | undefined {
  try {
    return read(path);
  } catch (error) {
    const errno = error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'EIO';
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw errnoError(errno, 'look for', path, error);
  }
}
