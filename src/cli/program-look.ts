import { InvalidArgumentError, Option, type Command } from 'commander';
import { defer, of, type Observable } from 'rxjs';
import { demoCommand } from './demo.js';
import { doctorCommand } from './doctor.js';
import { infoCommand } from './info.js';
import { listCommand } from './list.js';
import { thisMachine } from './machine/machine.js';
import type { Screen } from './show.js';
import { watchable, watchCommand } from './watch.js';

/** What the commands that look are given. */
export interface LookContext {
  readonly screen: Omit<Screen, 'json'>;
  readonly interrupt: Observable<unknown>;
  /** The help about DEVICE. */
  readonly devices: string;
  /** Takes what there is to do. */
  readonly work: (work: Observable<number>) => void;
}

interface JsonFlag {
  readonly json?: boolean;
}

/** The commands that change nothing: what there is, what is wrong with it, and what it does. */
export function addLooking(program: Command, { screen, interrupt, devices, work }: LookContext): void {
  const on = ({ json = false }: JsonFlag): Screen => ({ ...screen, json });

  program.command('list').description('says which devices there are, and which can be opened')
    .addOption(json('a line of JSON for each device'))
    .addHelpText('after', '\nPCI functions that are bound or could be, mdevs, and what else a VFIO driver holds; names from pci.ids where it is installed.\nEnds with 0, 2 (usage).')
    .action((flags: JsonFlag) => work(defer(() => of(listCommand(thisMachine, on(flags))))));

  program.command('doctor').description('looks for what is wrong with this machine or a device, and says which commands mend it')
    .argument('[DEVICE]', 'which')
    .addOption(json('a line of JSON for each finding'))
    .addHelpText('after', `${devices}\n\nIt runs none of the commands that it says.\nEnds with 0 (all is well), 1 (something is wrong), 2 (usage).`)
    .action((device: string | undefined, flags: JsonFlag) => work(defer(() => of(doctorCommand(thisMachine, device, on(flags))))));

  program.command('info').description('opens a device, says what it says of itself, and closes it')
    .argument('<DEVICE>', 'which')
    .addOption(json('one JSON object'))
    .addHelpText('after', `${devices}\n\nEnds with 0, 1 (failed), 2 (usage).`)
    .action((device: string, flags: JsonFlag) => work(infoCommand(thisMachine, device, on(flags))));

  program.command('watch').description('opens devices, serves what their drivers demand, and shows what happens, until Ctrl-C')
    .argument('<DEVICE...>', 'which')
    .option('--trace <FILE>', 'what crosses the port, for render and replay; of several devices FILE-1, FILE-2, ...')
    .addOption(json('a line of JSON for each event'))
    .addHelpText('after', `${devices}

A device has one user at a time: watch is the one meanwhile. It does nothing of its own but serve remaps and listen to irqs (MSI-X or MSI,
ERR, REQ and the device's own); where the kernel asks for a device, it is closed.
Ends with 0 (all are closed), 1 (one failed), 2 (usage).`)
    .action((named: readonly string[], { trace, ...flags }: JsonFlag & { readonly trace?: string }) => work(watchCommand({ devices: named.map(watchable), trace }, on(flags), interrupt)));

  program.command('demo').description('shows what this is for, on a device in this process: no hardware, no rights')
    .option('--seconds <N>', 'how long', seconds, 10)
    .addOption(json('a line of JSON for each thing that happens'))
    .addHelpText('after', '\nEnds with 0 (the device says that all is well, or Ctrl-C), 1 (something is wrong), 2 (usage).')
    .action(({ seconds: long, ...flags }: JsonFlag & { readonly seconds: number }) => work(demoCommand({ forMs: long * 1000, interrupt }, on(flags))));
}

const longestDemo = 3600;

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= longestDemo) return value;
  throw new InvalidArgumentError(`It takes a number of seconds, at most ${longestDemo}.`);
}

function json(about: string): Option {
  return new Option('--json', about);
}
