import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { errnoError, VfioError } from '../../errors.js';
import type { KernelAddress } from './address.js';

/** Where sysfs, the VFIO files and the iommufd are; tests put a tree of their own here. */
export interface KernelPaths {
  readonly sys: string;
  readonly dev: string;
  readonly iommu: string;
}

export const kernelPaths: KernelPaths = { sys: '/sys', dev: '/dev/vfio', iommu: '/dev/iommu' };

/** By what a device can be opened. */
export interface FoundDevice {
  /** A BDF or an mdev uuid: its name within its group, too. */
  readonly name: string;
  /** Its IOMMU group. */
  readonly group: number | undefined;
  /** Its own file in /dev/vfio/devices, where this kernel makes one: `vfio3`. */
  readonly cdev: string | undefined;
}

/** A device that shares a group. */
export interface GroupMate extends FoundDevice {
  readonly driver: string | undefined;
}

export const groupPath = (group: number, paths: KernelPaths): string => `${paths.dev}/${group}`;
/** The file of a group that no IOMMU protects. */
export const noiommuPath = (group: number, paths: KernelPaths): string => `${paths.dev}/noiommu-${group}`;
export const cdevPath = (cdev: string, paths: KernelPaths): string => `${paths.dev}/devices/${cdev}`;

/** One device that a VFIO driver holds. */
export interface ListedDevice extends FoundDevice {
  readonly kind: 'mdev' | 'pci';
}

/**
 * Where VFIO is missing that is said first: "no such mdev" would send people looking for the wrong thing.
 * Fails with VFIO_E_UNAVAILABLE.
 */
export function requireVfio(device: string, paths: KernelPaths = kernelPaths): void {
  if (exists(join(paths.dev, 'vfio')) || exists(join(paths.dev, 'devices'))) return;
  throw new VfioError('VFIO_E_UNAVAILABLE', noVfio, { operation: 'open', device });
}

export const noVfio = 'this machine offers no VFIO: load it with modprobe vfio_iommu_type1 (and the bus driver), or use a software device';

/** Finds what an address names through sysfs. Fails with VFIO_E_ADDRESS, saying what is missing. */
export function findDevice(address: KernelAddress, paths: KernelPaths = kernelPaths): FoundDevice {
  if (address.kind === 'group') return { ...findMate(address.group, address.device ?? onlyDevice(address.group, paths), paths), group: address.group };
  if (address.kind === 'cdev') return findByCdev(address.cdev, paths);
  const found = at(busOf(address.kind), address.kind === 'mdev' ? address.uuid : address.bdf, paths);
  if (found.group !== undefined || found.cdev !== undefined) return found;
  const advice =
    address.kind === 'mdev'
      ? 'no such mdev, or it has no IOMMU group: create it through mdev_supported_types of its parent'
      : 'no such PCI function, or it has no IOMMU group: check the address, and that the kernel runs with an IOMMU (intel_iommu=on)';
  throw new VfioError('VFIO_E_ADDRESS', advice, { operation: 'find device', device: found.name });
}

/** Every device of this machine that could be opened: mdevs, and PCI functions bound to a VFIO driver. Empty where there is no VFIO. */
export function listDevices(paths: KernelPaths = kernelPaths): readonly ListedDevice[] {
  const listed = (kind: 'mdev' | 'pci'): readonly ListedDevice[] =>
    entries(join(paths.sys, busOf(kind)))
      .filter((name) => kind === 'mdev' || driverOf(join(paths.sys, busOf(kind), name))?.includes('vfio') === true)
      .map((name) => ({ kind, ...at(busOf(kind), name, paths) }))
      .filter(({ group, cdev }) => group !== undefined || cdev !== undefined);
  return [...listed('mdev'), ...listed('pci')];
}

/** The devices of a group, with who drives them. */
export function groupMates(group: number, paths: KernelPaths): readonly GroupMate[] {
  return entries(membersOf(group, paths)).map((name) => ({ ...findMate(group, name, paths), driver: driverOf(join(membersOf(group, paths), name)) }));
}

/** True where there is something at the path. Throws where that may not be asked. */
export function exists(path: string): boolean {
  return absent(path, () => statSync(path)) !== undefined;
}

const busOf = (kind: 'mdev' | 'pci'): string => `bus/${kind}/devices`;
const membersOf = (group: number, paths: KernelPaths): string => join(paths.sys, 'kernel/iommu_groups', String(group), 'devices');

function at(directory: string, name: string, paths: KernelPaths): FoundDevice {
  const path = join(paths.sys, directory, name);
  return { name, group: groupOf(path), cdev: cdevOf(path) };
}

function findMate(group: number, name: string, paths: KernelPaths): FoundDevice {
  return { name, group, cdev: cdevOf(join(membersOf(group, paths), name)) };
}

function findByCdev(cdev: string, paths: KernelPaths): FoundDevice {
  const device = join(paths.sys, 'class/vfio-dev', cdev, 'device');
  const name = linkName(device);
  if (name === undefined) throw new VfioError('VFIO_E_ADDRESS', 'no such device file: see /sys/class/vfio-dev for which there are', { operation: 'find device', device: cdevPath(cdev, paths) });
  return { name, group: groupOf(device), cdev };
}

function onlyDevice(group: number, paths: KernelPaths): string {
  const names = entries(membersOf(group, paths));
  const [name] = names;
  if (name !== undefined && names.length === 1) return name;
  const why = name === undefined ? 'no such group, or it is empty' : `it has ${names.length} devices: say which, as group:${group}/${name}`;
  throw new VfioError('VFIO_E_ADDRESS', why, { operation: 'find device', device: `group:${group}` });
}

function groupOf(device: string): number | undefined {
  const group = linkName(join(device, 'iommu_group'));
  return group !== undefined && /^\d+$/.test(group) ? Number(group) : undefined;
}

function cdevOf(device: string): string | undefined {
  return entries(join(device, 'vfio-dev')).find((name) => /^vfio\d+$/.test(name));
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
