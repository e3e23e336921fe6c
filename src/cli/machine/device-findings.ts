import { note, ok, wrong, type Finding } from './finding.js';
import { functionAt, groupMates, isVfioDriver, type Found } from './inventory.js';
import { isThere, mayUse, type Machine } from './machine.js';
import { bindCommands, giveFile, unbindCommands } from './mending.js';
import { sharedFile, usualWay, type Way } from './way.js';

/** Drivers that do no DMA and may hold a function of a group that a user has. */
const harmlessDrivers = new Set(['pci-stub', 'pcieport']);

/** What stands between a device and its user, from the IOMMU to the file. */
export function deviceFindings(machine: Machine, device: Found, way = usualWay(machine, device)): readonly Finding[] {
  return [...driverFindings(machine, device), ...groupFindings(machine, device), ...(device.vfio ? fileFindings(machine, device, way) : [])];
}

/** Why the device cannot be opened now, in a line; undefined: it can. */
export function whyNotReady(machine: Machine, device: Found): string | undefined {
  return [...deviceFindings(machine, device), sharedFile(machine, usualWay(machine, device))].find(({ level }) => level === 'wrong')?.says;
}

export function vfioPciLoaded(machine: Machine): boolean {
  return isThere(machine, '/sys/bus/pci/drivers/vfio-pci');
}

function driverFindings(machine: Machine, { name, kind, driver, vfio, hostHas }: Found): readonly Finding[] {
  if (vfio) return [kind === 'pci' ? { ...ok('driver', `${driver ?? 'a VFIO driver'} holds it; to give it back:`), mend: unbindCommands(machine, name, driver ?? 'vfio-pci') } : ok('driver', `${driver ?? 'a VFIO driver'} holds it`)];
  if (kind !== 'pci') return [wrong('driver', 'no driver of VFIO holds it: the module of its parent driver is to be loaded')];
  const holder = driver === undefined ? 'no driver holds it' : `${driver} holds it, which is no VFIO driver`;
  return [...hostLoses('it', hostHas), wrong('driver', holder, bindCommands(machine, name, driver, vfioPciLoaded(machine)))];
}

/** Stands before the commands that take it: what is below them is read too late. */
function hostLoses(name: string, hostHas: readonly string[]): readonly Finding[] {
  return hostHas.length === 0 ? [] : [note('host', `this machine uses ${name} now: ${hostHas.join(', ')} will be gone when it is bound`)];
}

function groupFindings(machine: Machine, { name, kind, group }: Found): readonly Finding[] {
  if (group === undefined) return kind === 'other' ? [] : [wrong('group', kind === 'pci' ? 'it has no IOMMU group: the IOMMU is off' : 'it has no IOMMU group: its driver is not bound')];
  const mates = groupMates(machine, group).filter((mate) => mate !== name);
  const foreign = mates.flatMap((mate) => {
    const { driver, bridge, hostHas } = functionAt(machine, mate);
    return driver === undefined || isVfioDriver(driver) || bridge || harmlessDrivers.has(driver) ? [] : [{ mate, driver, hostHas }];
  });
  if (foreign.length === 0) return [ok('group', mates.length === 0 ? `alone in group ${group}` : `group ${group}, with ${mates.join(', ')}`)];
  const loaded = vfioPciLoaded(machine);
  return foreign.flatMap(({ mate, driver, hostHas }) => [
    ...hostLoses(mate, hostHas),
    wrong('group', `${mate} is in the same group ${group}, and ${driver} holds it: all of a group go to VFIO, or to no driver`, bindCommands(machine, mate, driver, loaded)),
  ]);
}

/** Of the file that opening takes; another one that may be opened is no help. */
function fileFindings(machine: Machine, { group, cdev }: Found, way: Way): readonly Finding[] {
  if (way === 'group' && group !== undefined && isThere(machine, `/dev/vfio/noiommu-${group}`)) return [wrong('file', `/dev/vfio/noiommu-${group}: no IOMMU stands between its DMA and all memory`)];
  const file = way === 'cdev' || group === undefined ? cdev : `/dev/vfio/${group}`;
  if (file === undefined || !isThere(machine, file)) return [wrong('file', `there is no ${file ?? '/dev/vfio/devices/...'}: in a container the file is to be passed in`)];
  return [mayUse(machine, file) ? ok('file', `${file} may be opened`) : wrong('file', `${file} may not be opened by this user`, [giveFile(machine, file)])];
}
