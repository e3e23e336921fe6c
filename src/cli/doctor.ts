import { parseDeviceName, type DeviceName } from './device-name.js';
import { readTraceFile } from '../devices/replay/read-trace-file.js';
import { VfioError } from '../errors.js';
import { deviceFindings, whyNotReady } from './machine/device-findings.js';
import { note, ok, wrong, type Finding } from './machine/finding.js';
import { inventory, suggested, type Found } from './machine/inventory.js';
import { machineFindings } from './machine/machine-findings.js';
import { isThere, mayUse, namesIn, type Machine } from './machine/machine.js';
import { writes } from './machine/mending.js';
import { usersOf } from './machine/users.js';
import { usualWay } from './machine/way.js';
import { jsonLine, type Screen } from './show.js';

/** What `vfio-rx doctor` ends with: nothing is wrong, or something is. */
const exitCodes = { well: 0, wrong: 1 } as const;

/** Looks at the machine, and at one device where one is named; says what is wrong, and which commands mend it. Runs none of them. Throws VFIO_E_ADDRESS. */
export function doctorCommand(machine: Machine, text: string | undefined, screen: Screen): number {
  const findings = text === undefined ? ofMachine(machine) : ofName(machine, parseDeviceName(text));
  for (const finding of findings) screen.write(screen.json ? jsonLine({ device: text, ...finding }) : inWords(finding));
  const faults = findings.filter(({ level }) => level === 'wrong').length;
  const whole = text ?? 'this machine';
  if (screen.json) screen.write(jsonLine({ device: text, well: faults === 0, wrong: faults }));
  else screen.write(faults === 0 ? `${whole}: all is well\n` : `${whole}: ${faults} ${faults === 1 ? 'thing is' : 'things are'} wrong; the commands were not run\n`);
  return faults === 0 ? exitCodes.well : exitCodes.wrong;
}

const marks = { ok: 'ok   ', note: 'note ', wrong: 'WRONG' } as const;

function inWords({ about, level, says, mend }: Finding): string {
  return [`${marks[level]}  ${about}: ${says}`, ...mend.map((command) => `         ${command}`), ''].join('\n');
}

function ofMachine(machine: Machine): readonly Finding[] {
  const devices = inventory(machine);
  const ready = devices.filter((device) => whyNotReady(machine, device) === undefined);
  const kind = ready.length > 0 && ready.every((device) => device.kind === 'mdev') ? 'mdev' : undefined;
  const first = suggested(devices);
  const none = first === undefined ? 'there is no device that could be opened; vfio-rx demo needs none' : `no device is ready; what to do about one: vfio-rx doctor ${first.name}`;
  return [...machineFindings(machine, kind), ready.length > 0 ? ok('devices', `ready: ${ready.map(({ name }) => name).join(', ')}`) : wrong('devices', none)];
}

function ofName(machine: Machine, name: DeviceName): readonly Finding[] {
  switch (name.kind) {
    case 'software':
      return [ok('device', 'a device in this process: it needs nothing')];
    case 'trace':
      return [ofTrace(name.path)];
    case 'vfio-user':
      return [ofSocket(machine, name.path)];
    default:
      return ofKernelDevice(machine, name);
  }
}

function ofTrace(path: string): Finding {
  try {
    const { entries, incomplete } = readTraceFile(path);
    return incomplete === undefined ? ok('trace', `${entries.length} entries, whole`) : note('trace', `${entries.length} entries, then ${incomplete.message}`);
  } catch (error) {
    if (!VfioError.is(error)) throw error;
    return wrong('trace', error.message);
  }
}

function ofSocket(machine: Machine, path: string): Finding {
  if (!isThere(machine, path)) return wrong('socket', `there is no ${path}: nobody serves there`, [`vfio-rx serve software unix:${path}`]);
  return mayUse(machine, path) ? ok('socket', `${path} may be used`) : wrong('socket', `${path} may not be used by this user: its server has to let it`);
}

function ofKernelDevice(machine: Machine, name: Extract<DeviceName, { readonly address: string }>): readonly Finding[] {
  const device = found(inventory(machine), name);
  const kind = name.kind === 'mdev' || name.kind === 'pci' ? name.kind : device?.kind;
  if (device === undefined) return [...machineFindings(machine, kind), absent(machine, name)];
  const way = name.kind === 'cdev' || name.kind === 'group' ? name.kind : usualWay(machine, device);
  const findings = deviceFindings(machine, device, way);
  const users = usersOf(machine, [...(device.group === undefined ? [] : [`/dev/vfio/${device.group}`]), ...(device.cdev === undefined ? [] : [device.cdev])]);
  const busy = users.map(({ pid, command, path }) => wrong('in use', `process ${pid} (${command}) has ${path} open: end it first`, [`kill ${pid}`]));
  return [...machineFindings(machine, kind, way), ok('device', [device.name, device.title].filter((part) => part !== undefined).join(', ')), ...findings, ...busy];
}

function found(devices: readonly Found[], { kind, address }: Extract<DeviceName, { readonly address: string }>): Found | undefined {
  if (kind === 'cdev') return devices.find(({ cdev }) => cdev === address);
  if (kind !== 'group') return devices.find(({ name }) => name === fullName(address));
  const [, group, member] = /^group:(\d+)(?:\/(.+))?$/.exec(address) ?? [];
  return devices.find((device) => device.group === Number(group) && (member === undefined || device.name === fullName(member)));
}

/** A PCI address may leave out its domain. */
function fullName(address: string): string {
  return (/^[0-9a-f]{2}:/i.test(address) ? `0000:${address}` : address).toLowerCase();
}

function absent(machine: Machine, { kind, address }: Extract<DeviceName, { readonly address: string }>): Finding {
  if (kind !== 'mdev') return wrong('device', `there is no ${address}: vfio-rx list says what there is`);
  const parents = namesIn(machine, '/sys/class/mdev_bus').flatMap((parent) =>
    namesIn(machine, `/sys/class/mdev_bus/${parent}/mdev_supported_types`).map((type) => `/sys/class/mdev_bus/${parent}/mdev_supported_types/${type}/create`),
  );
  return wrong('device', `there is no mdev ${address}, and ${parents.length === 0 ? 'no driver here makes any' : 'one of these creates it'}`, parents.map((path) => writes(machine, address, path)));
}
