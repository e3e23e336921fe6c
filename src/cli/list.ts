import { columns } from './columns.js';
import { whyNotReady } from './machine/device-findings.js';
import { inventory, suggested, type Found } from './machine/inventory.js';
import type { Machine } from './machine/machine.js';
import { jsonLine, type Screen } from './show.js';

/** Says which devices there are, the ready ones first. Returns the exit code. */
export function listCommand(machine: Machine, { write, json }: Screen): number {
  const all = inventory(machine).map((device) => ({ device, why: whyNotReady(machine, device) }));
  const devices = [...all.filter(({ why }) => why === undefined), ...all.filter(({ why }) => why !== undefined)];
  if (json) {
    for (const { device, why } of devices) write(jsonLine(jsonOf(device, why)));
    return 0;
  }
  if (devices.length === 0) write('no PCI function, no mdev: nothing that could be opened. A device without hardware: vfio-rx demo\n');
  else write(columns([['DEVICE', 'GROUP', 'DRIVER', 'READY', 'WHAT'], ...devices.map(({ device, why }) => rowOf(device, why))]));
  const waiting = suggested(all.flatMap(({ device, why }) => (why === undefined ? [] : [device])));
  if (waiting !== undefined) write(`\nWhat to do about one that is not ready: vfio-rx doctor ${waiting.name}\n`);
  return 0;
}

function jsonOf({ name, kind, driver, group, cdev, ids, title, hostHas }: Found, why: string | undefined): object {
  return { device: name, kind, driver, group, cdev, vendor: ids?.vendor, id: ids?.device, class: ids?.class, title, hostHas, ready: why === undefined, why };
}

function rowOf({ name, kind, driver, group, ids, title }: Found, why: string | undefined): readonly string[] {
  const numbers = ids === undefined ? kind : `${ids.vendor}:${ids.device}`;
  const what = [numbers, ...(title === undefined ? [] : [title]), ...(why === undefined ? [] : [`(${why})`])].join(' ');
  return [name, group === undefined ? '-' : `${group}`, driver ?? '-', why === undefined ? 'yes' : 'no', what];
}
