#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { fromEvent, share, type Observable } from 'rxjs';
import { softwareDevice } from '../devices/software/software-device.js';
import { VfioError } from '../errors.js';
import { exitCodes, migrateCommand, receiveCommand, resolveCommand } from './commands.js';
import { conformanceCommand } from './conformance.js';
import { jsonLine, type Screen } from './show.js';

const usage = `vfio-rx migrate DEVICE... --to ADDRESS --journal FILE [--downtime MS] [--no-peer-to-peer] [--json]
vfio-rx receive DEVICE... --at ADDRESS --journal FILE [--exit] [--json]
vfio-rx resolve --journal FILE (--to ADDRESS | --at ADDRESS) [--json]
vfio-rx conformance DEVICE [--json | --junit] [--destructive] [--patience MS]

DEVICE   a PCI address, an mdev uuid, group:N, or software for the device in this process
         migrate, receive: software:NAME?bytes=N&seed=N&version=1 for one with contents; =NAME behind a device names it at the other end
ADDRESS  tcp://HOST:PORT or unix:/PATH

migrate moves devices to a receive elsewhere. Ctrl-C aborts in order: before the decision the source runs again. Ends with 0 (moved),
1 (failed, or not moved), 2 (usage), 3 (in doubt). resolve ends what a process that died has left in doubt.

conformance goes every way of device_state that the device's flags allow, and says which rules its driver keeps. --destructive
asks for the rules that may hurt the device, too. Ends with 0 (no rule is broken), 1 (some are), 2 (usage).
`;

const options = {
  to: { type: 'string' }, at: { type: 'string' }, journal: { type: 'string' }, downtime: { type: 'string' }, 'no-peer-to-peer': { type: 'boolean' }, exit: { type: 'boolean' },
  junit: { type: 'boolean' }, destructive: { type: 'boolean' }, patience: { type: 'string' },
  json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' },
} as const;

/** The work of a command; it emits the exit code. Throws TypeError for arguments that are none, and as the commands do. */
function commandOf(args: readonly string[], screen: Omit<Screen, 'json'>, interrupt: Observable<unknown>): Observable<number> {
  const { values, positionals } = parseArgs({ args: [...args], allowPositionals: true, options });
  const [command = 'no command', ...devices] = positionals;
  const required = (name: 'to' | 'at' | 'journal'): string => {
    const value = values[name];
    if (value === undefined) throw new TypeError(`vfio-rx ${command} needs --${name}`);
    return value;
  };
  const positive = (name: 'downtime' | 'patience'): number | undefined => {
    const value = values[name] === undefined ? undefined : Number(values[name]);
    if (!((value ?? 1) > 0)) throw new TypeError(`--${name} takes a number of ms`);
    return value;
  };
  const shown: Screen = { ...screen, json: values.json ?? false };
  if ((command === 'migrate' || command === 'receive') && devices.length === 0) throw new TypeError(`vfio-rx ${command} needs a device`);
  switch (command) {
    case 'migrate': {
      const downtimeLimitMs = positive('downtime');
      const limits = downtimeLimitMs === undefined ? {} : { downtimeLimitMs };
      return migrateCommand({ devices, address: required('to'), journal: required('journal'), noPeerToPeer: values['no-peer-to-peer'] ?? false, ...limits }, shown, interrupt);
    }
    case 'receive': return receiveCommand({ devices, address: required('at'), journal: required('journal'), exit: values.exit ?? false }, shown, interrupt);
    case 'resolve': {
      const listen = values.at !== undefined;
      return resolveCommand({ address: required(listen ? 'at' : 'to'), journal: required('journal'), listen }, shown);
    }
    case 'conformance': {
      const [device, ...more] = devices;
      if (device === undefined || more.length > 0 || (values.json === true && values.junit === true)) throw new TypeError('vfio-rx conformance takes one device, and one form');
      const patienceMs = positive('patience');
      return conformanceCommand({
        address: device === 'software' ? softwareDevice() : device,
        name: device,
        form: values.json === true ? 'json' : values.junit === true ? 'junit' : 'lines',
        destructive: values.destructive ?? false,
        ...(patienceMs === undefined ? {} : { patienceMs }),
      }, shown.write);
    }
    default: throw new TypeError(`vfio-rx knows no ${command}`);
  }
}

function main(args: readonly string[]): void {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(usage);
    return;
  }
  const screen = { write: (text: string) => void process.stdout.write(text), terminal: process.stdout.isTTY };
  commandOf(args, screen, fromEvent(process, 'SIGINT').pipe(share())).subscribe({
    next: (code) => { process.exitCode = code; },
    error: (error: unknown) => {
      if (!VfioError.is(error)) throw error;
      if (args.includes('--json')) process.stdout.write(jsonLine({ error }));
      process.stderr.write(`${error.message}\n`);
      process.exitCode = exitCodes.failed;
    },
  });
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof TypeError) && !VfioError.is(error)) throw error;
  process.stderr.write(`${error.message}\n${VfioError.is(error) ? '' : `\n${usage}`}`);
  process.exitCode = exitCodes.usage;
}
