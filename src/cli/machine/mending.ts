import type { Machine } from './machine.js';
import { pciFolder } from './inventory.js';

/** Commands as a person types them; none of them is ever run from here. */

type Who = Pick<Machine, 'asRoot'>;

export function asRoot({ asRoot: already }: Who, command: string): string {
  return already ? command : `sudo ${command}`;
}

export function writes(who: Who, value: string, path: string): string {
  const text = value === '' ? 'echo' : `echo ${value}`;
  return who.asRoot ? `${text} > ${path}` : `${text} | sudo tee ${path}`;
}

/** Takes a PCI function from its driver and gives it to vfio-pci, and no other function of the same kind. */
export function bindCommands(who: Who, bdf: string, driver: string | undefined, loaded: boolean): readonly string[] {
  const path = `${pciFolder}/${bdf}`;
  return [
    ...(loaded ? [] : [asRoot(who, 'modprobe vfio-pci')]),
    writes(who, 'vfio-pci', `${path}/driver_override`),
    ...(driver === undefined ? [] : [writes(who, bdf, `${path}/driver/unbind`)]),
    writes(who, bdf, '/sys/bus/pci/drivers_probe'),
  ];
}

/** Gives it back to the driver that it had by itself. */
export function unbindCommands(who: Who, bdf: string, driver: string): readonly string[] {
  return [
    writes(who, bdf, `/sys/bus/pci/drivers/${driver}/unbind`),
    writes(who, '', `${pciFolder}/${bdf}/driver_override`),
    writes(who, bdf, '/sys/bus/pci/drivers_probe'),
  ];
}

/** Gives a file to the user of this shell. */
export function giveFile(who: Who, path: string): string {
  return asRoot(who, `chown "$(id -u)" ${path}`);
}
