import { isThere, linkedName, linkedPath, namesIn, realPath, textOf, type Machine } from './machine.js';
import { pciNames, type PciIds } from './pci-ids.js';

/** A device that a command could be given, now or once it is bound. */
export interface Found {
  /** As a command takes it. */
  readonly name: string;
  readonly kind: 'pci' | 'mdev' | 'other';
  /** Its folder in sysfs. */
  readonly path: string;
  readonly driver: string | undefined;
  /** A VFIO driver holds it. */
  readonly vfio: boolean;
  readonly group: number | undefined;
  /** Its own device file, /dev/vfio/devices/vfioN, where the kernel makes such files. */
  readonly cdev: string | undefined;
  readonly ids: PciIds | undefined;
  /** What it is, in words. */
  readonly title: string | undefined;
  /** What the host has of it while another driver holds it: network interfaces, disks, and its virtual functions, whoever uses them. */
  readonly hostHas: readonly string[];
}

export const pciFolder = '/sys/bus/pci/devices';
export const mdevFolder = '/sys/bus/mdev/devices';
const cdevClass = '/sys/class/vfio-dev';

const bridgeClass = '06';
/** Bridges between PCI buses (PCI, CardBus, semi-transparent): the kernel lets their drivers be. One to ISA is a function like others. */
const busBridgeClasses = ['0604', '0607', '0609'];

/** Every PCI function that is no bridge, every mdev, and whatever else a VFIO driver holds. */
export function inventory(machine: Machine): readonly Found[] {
  const nameOf = pciNames(machine);
  const host = hostParts(machine);
  const pci = namesIn(machine, pciFolder).flatMap((name) => {
    const path = `${pciFolder}/${name}`;
    const ids = idsOf(machine, path);
    if (ids?.class.startsWith(bridgeClass) === true) return [];
    return [{ ...common(machine, name, path), kind: 'pci' as const, ids, title: ids && nameOf(ids), hostHas: heldBy(machine, host, name) }];
  });
  const mdevs = namesIn(machine, mdevFolder).map((name) => {
    const path = `${mdevFolder}/${name}`;
    return { ...common(machine, name, path), kind: 'mdev' as const, ids: undefined, title: textOf(machine, `${path}/mdev_type/name`) ?? linkedName(machine, `${path}/mdev_type`), hostHas: [] };
  });
  const known = new Set([...pci, ...mdevs].map(({ name }) => name));
  const others = namesIn(machine, cdevClass).flatMap((cdev) => {
    const parent = linkedName(machine, `${cdevClass}/${cdev}/device`);
    if (parent === undefined || known.has(parent)) return [];
    const found = common(machine, `/dev/vfio/devices/${cdev}`, `${cdevClass}/${cdev}/device`);
    return [{ ...found, kind: 'other' as const, cdev: found.name, vfio: true, ids: undefined, title: parent, hostHas: [] }];
  });
  return [...pci, ...mdevs, ...others];
}

/** The one to try first: nobody uses it, or nothing that is seen of it. */
export function suggested(devices: readonly Found[]): Found | undefined {
  return devices.find(({ driver }) => driver === undefined) ?? devices.find(({ hostHas }) => hostHas.length === 0) ?? devices[0];
}

/** The PCI functions and mdevs of a group, bridges too. */
export function groupMates(machine: Machine, group: number): readonly string[] {
  return namesIn(machine, `/sys/kernel/iommu_groups/${group}/devices`);
}

/** What the machine knows of one function; `bridge`: between PCI buses. */
export function functionAt(machine: Machine, name: string): Pick<Found, 'driver' | 'hostHas'> & { readonly bridge: boolean } {
  const path = `${pciFolder}/${name}`;
  const code = idsOf(machine, path)?.class;
  return { driver: linkedName(machine, `${path}/driver`), hostHas: heldBy(machine, hostParts(machine), name), bridge: busBridgeClasses.some((one) => code?.startsWith(one)) };
}

export function isVfioDriver(driver: string | undefined): boolean {
  return driver?.includes('vfio') === true;
}

function common(machine: Machine, name: string, path: string): Pick<Found, 'name' | 'path' | 'driver' | 'vfio' | 'group' | 'cdev'> {
  const driver = linkedName(machine, `${path}/driver`);
  const group = linkedName(machine, `${path}/iommu_group`);
  const [own] = namesIn(machine, `${path}/vfio-dev`);
  const cdev = own === undefined ? undefined : `/dev/vfio/devices/${own}`;
  return {
    name, path, driver,
    // The kernel makes vfio-dev for any driver of VFIO, since 6.1; the name tells on older ones. On the bus of mdevs all are.
    vfio: own !== undefined || isVfioDriver(driver) || (path.startsWith(mdevFolder) && driver !== undefined),
    group: group !== undefined && /^\d+$/.test(group) ? Number(group) : undefined,
    cdev: cdev !== undefined && isThere(machine, cdev) ? cdev : undefined,
  };
}

function idsOf(machine: Machine, path: string): PciIds | undefined {
  const [vendor, device, code] = ['vendor', 'device', 'class'].map((name) => textOf(machine, `${path}/${name}`)?.replace(/^0x/, '').toLowerCase());
  return vendor === undefined || device === undefined || code === undefined ? undefined : { vendor, device, class: code };
}

interface HostPart {
  readonly name: string;
  readonly below: (device: string) => boolean;
}

function heldBy(machine: Machine, host: readonly HostPart[], device: string): readonly string[] {
  const path = `${pciFolder}/${device}`;
  const virtual = namesIn(machine, path).filter((name) => /^virtfn\d+$/.test(name)).map((name) => linkedName(machine, `${path}/${name}`) ?? name);
  return [...host.flatMap((part) => (part.below(device) ? [part.name] : [])), ...virtual];
}

/** Network interfaces and disks, and below which device they are. */
function hostParts(machine: Machine): readonly HostPart[] {
  return ['/sys/class/net', '/sys/block'].flatMap((folder) =>
    namesIn(machine, folder).flatMap((name) => {
      const link = linkedPath(machine, `${folder}/${name}`) ?? realPath(machine, `${folder}/${name}/device`);
      return link === undefined ? [] : [{ name, below: (device: string) => link.split('/').includes(device) }];
    }),
  );
}
