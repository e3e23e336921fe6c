#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { softwareDevice } from '../devices/software/software-device.js';
import { VfioError } from '../errors.js';
import { conformanceCommand } from './conformance.js';

const usage = `vfio-rx conformance DEVICE [--json | --junit] [--destructive] [--patience MS]

DEVICE   a PCI address, an mdev uuid, group:N, or software for the device in this process

Goes every way of device_state that the device's flags allow, and says which rules its driver keeps. --destructive
asks for the rules that may hurt the device, too. Ends with 0 (no rule is broken), 1 (some are), 2 (usage).
`;

function main(args: readonly string[]): void {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { json: { type: 'boolean' }, junit: { type: 'boolean' }, destructive: { type: 'boolean' }, patience: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  const [command, device, ...more] = positionals;
  const patienceMs = values.patience === undefined ? undefined : Number(values.patience);
  if (values.help === true) {
    process.stdout.write(usage);
    return;
  }
  if (command !== 'conformance' || device === undefined || more.length > 0 || (values.json === true && values.junit === true) || !((patienceMs ?? 1) > 0)) throw new TypeError('vfio-rx takes one command and one device');
  conformanceCommand({
    address: device === 'software' ? softwareDevice() : device,
    name: device,
    form: values.json === true ? 'json' : values.junit === true ? 'junit' : 'lines',
    destructive: values.destructive ?? false,
    ...(patienceMs === undefined ? {} : { patienceMs }),
  }, (text) => process.stdout.write(text)).subscribe({
    next: (code) => { process.exitCode = code; },
    error: (error: unknown) => {
      if (!VfioError.is(error)) throw error;
      process.stderr.write(`${error.message}\n`);
      process.exitCode = 1;
    },
  });
}

try {
  main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof TypeError)) throw error;
  process.stderr.write(`${error.message}\n\n${usage}`);
  process.exitCode = 2;
}
