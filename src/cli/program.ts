import { Command, InvalidArgumentError, Option } from 'commander';
import type { Observable } from 'rxjs';
import type { State } from '../devices/port.js';
import { mostDataBytes } from '../devices/replay/recorder.js';
import { migrateCommand, receiveCommand, resolveCommand } from './commands.js';
import { conformanceCommand, conformanceRules } from './conformance.js';
import { parseDevice } from './devices.js';
import { addLooking } from './program-look.js';
import { recordCommand } from './record.js';
import { renderCommand } from './render.js';
import { replayCommand } from './replay.js';
import { serveCommand } from './serve.js';
import type { Screen } from './show.js';
import { tlsOf, withTls, type TlsFlags } from './tls.js';
import { requireAddress } from './transports.js';
import { version } from './version.js';

const devices = `
DEVICE   a PCI address, an mdev uuid, /dev/vfio/devices/vfioN, group:N, unix:PATH (served by vfio-user), trace:FILE, or a device in this process:
         software for one that demands remaps, software:NAME?every=MS for one that does so by itself, software:NAME?bytes=N&seed=N&version=1
         for one with contents`;
const renamed = `
         =NAME behind a device names it at the other end`;
const addresses = `
ADDRESS  tcp://HOST:PORT, unix:/PATH, or file:/FOLDER (a folder that both sides reach)`;
const migrationEnds = `
Ends with 0 (moved), 1 (failed, or not moved), 2 (usage), 3 (in doubt).`;

/**
 * The work that the arguments ask for; it emits the exit code. Throws CommanderError for what is none (its message has been
 * written), also after help, and as the commands do.
 */
export function workOf(args: readonly string[], screen: Omit<Screen, 'json'>, interrupt: Observable<unknown>): Observable<number> {
  let work: Observable<number> | undefined;
  const shown = (json = false): Screen => ({ ...screen, json });
  const program = new Command('npx vfio-rx')
    .description('VFIO devices: find them, look at them, migrate them, check their drivers, and record what they do')
    .exitOverride()
    .configureOutput({ writeOut: screen.write })
    .helpCommand(false)
    .version(version, '-V, --version', 'says which version this is');

  addLooking(program, { screen, interrupt, devices, work: (asked) => void (work = asked) });

  const migrate = withTls(program.command('migrate').description('moves devices to a receive elsewhere')
    .usage('--to <ADDRESS> --journal <FILE> [options] <DEVICE...>')
    .argument('<DEVICE...>', 'which')
    .requiredOption('--to <ADDRESS>', 'of the receive', address)
    .addOption(journal())
    .option('--downtime <MS>', 'how long nothing may run', positive)
    .option('--patience <MS>', 'how long a phase may take', positive)
    .option('--no-peer-to-peer', 'the devices do no DMA to one another'))
    .addOption(json())
    .addHelpText('after', `${devices}${renamed}${addresses}\n\nCtrl-C aborts in order: before the decision the source runs again.${migrationEnds}`)
    .action((named: readonly string[], { to, downtime, patience, peerToPeer, ...rest }: TlsFlags & { readonly to: string; readonly journal: string; readonly downtime?: number; readonly patience?: number; readonly peerToPeer: boolean; readonly json?: boolean }) => {
      work = migrateCommand({ devices: named, address: to, journal: rest.journal, noPeerToPeer: !peerToPeer, ...tlsOf(migrate, rest), ...(downtime === undefined ? {} : { downtimeLimitMs: downtime }), ...patient(patience) }, shown(rest.json), interrupt);
    });

  const receive = withTls(program.command('receive').description('takes devices from a migrate elsewhere, and runs them until Ctrl-C')
    .usage('--at <ADDRESS> --journal <FILE> [options] <DEVICE...>')
    .argument('<DEVICE...>', 'which')
    .requiredOption('--at <ADDRESS>', 'where to listen', address)
    .addOption(journal())
    .option('--patience <MS>', 'how long a phase may take', positive)
    .option('--exit', 'end when they have been moved'))
    .addOption(json())
    .addHelpText('after', `${devices}${renamed}${addresses}\n\nCtrl-C while it is in doubt gives the devices up, if none has run: they never will here.${migrationEnds}`)
    .action((named: readonly string[], { at, exit = false, patience, ...rest }: TlsFlags & { readonly at: string; readonly journal: string; readonly patience?: number; readonly exit?: boolean; readonly json?: boolean }) => {
      work = receiveCommand({ devices: named, address: at, journal: rest.journal, exit, ...tlsOf(receive, rest), ...patient(patience) }, shown(rest.json), interrupt);
    });

  const resolve = withTls(program.command('resolve').description('ends what a process that died has left in doubt')
    .usage('(--to <ADDRESS> | --at <ADDRESS>) --journal <FILE> [options]')
    .addOption(new Option('--to <ADDRESS>', 'of a resolve at the other end').argParser(address).conflicts('at'))
    .option('--at <ADDRESS>', 'where to listen for one', address)
    .addOption(journal()))
    .addOption(json())
    .addHelpText('after', `${addresses}\n${migrationEnds}`)
    .action(({ to, at, ...rest }: TlsFlags & { readonly to?: string; readonly at?: string; readonly journal: string; readonly json?: boolean }) => {
      const address = at ?? to ?? resolve.error('error: --to or --at is needed');
      work = resolveCommand({ address, journal: rest.journal, listen: at !== undefined, ...tlsOf(resolve, rest) }, shown(rest.json), interrupt);
    });

  program.command('serve').description('serves a device by vfio-user, to one client after the other, until Ctrl-C')
    .argument('<DEVICE>', 'which')
    .argument('<ADDRESS>', 'unix:PATH; the device there is vfio-user:PATH', socket)
    .addOption(json())
    .addHelpText('after', `${devices}\n\nEnds with 0 (Ctrl-C), 1 (failed), 2 (usage).`)
    .action((text: string, at: string, { json: asJson }: { readonly json?: boolean }) => {
      const { name, address } = parseDevice(text);
      work = serveCommand({ name, address, at }, shown(asJson), interrupt);
    });

  program.command('conformance').description("asks a device for all that is promised of it, goes every way of device_state that its flags allow, and says which rules its driver keeps")
    .argument('<DEVICE>', 'which')
    .addOption(json().conflicts('junit'))
    .option('--junit', 'JUnit XML')
    .option('--destructive', 'also the rules that may hurt the device')
    .option('--only <RULE...>', `a group of rules (${ruleGroups.join(', ')}), or one of them, as REMAP-3`, rule)
    .option('--patience <MS>', 'how long one call may take', positive)
    .addHelpText('after', `${devices}\n\nEnds with 0 (no rule is broken), 1 (some are), 2 (usage).`)
    .action((name: string, { json: asJson = false, junit = false, destructive = false, only, patience }: { readonly json?: boolean; readonly junit?: boolean; readonly destructive?: boolean; readonly only?: readonly string[]; readonly patience?: number }) => {
      work = conformanceCommand({
        address: parseDevice(name).address,
        name,
        form: asJson ? 'json' : junit ? 'junit' : 'lines',
        destructive,
        ...(only === undefined ? {} : { only }),
        ...patient(patience),
      }, screen.write, interrupt);
    });

  const record = program.command('record').description('serves a device, takes it through states, and writes down what crosses its port')
    .argument('<DEVICE>', 'which')
    .argument('[STATE...]', `where device_state goes, one after the other: ${states.join(', ')}`, state)
    .option('-o, --out <FILE>', 'the trace', 'trace.jsonl')
    .option('--for <MS>', 'how long', positive)
    .option('--data-bytes <N>', `how much is kept of the bytes of one access, and of one piece of device state; 64, at most ${mostDataBytes}`, dataBytesOf)
    .option('--test <FILE>', 'a test that replays it, for vitest')
    .addOption(json())
    .addHelpText('after', `${devices}

It ends after --for, else behind the last state; Ctrl-C ends it in order at any time, a second one at once. Then the device is closed, and the trace
whole. End with running: there are drivers that keep a state over a close. What there is to save is read; behind stop-copy resuming loads it again.
Ends with 0 (recorded), 1 (failed: what was recorded until then is kept), 2 (usage).`)
    .action((device: string, through: readonly State[], { out, for: forMs, dataBytes, test, json: asJson }: { readonly out: string; readonly for?: number; readonly dataBytes?: number; readonly test?: string; readonly json?: boolean }) => {
      if (through.includes('resuming') && !through.slice(0, through.indexOf('resuming')).includes('stop-copy')) {
        record.error('error: resuming loads what was saved: name stop-copy before it');
      }
      work = recordCommand({ device, out, states: through, forMs, dataBytes, test }, shown(asJson), interrupt);
    });

  program.command('replay').description('runs the standard pipeline over what record has kept, in virtual time')
    .argument('<TRACE>', 'a file of record')
    .addOption(json())
    .addHelpText('after', '\nEnds with 0 (it did what was recorded), 1 (it departed: line, expected and actual are said), 2 (usage).')
    .action((path: string, { json: asJson }: { readonly json?: boolean }) => {
      work = replayCommand(path, shown(asJson));
    });

  program.command('render').description('draws traces, several on one time axis')
    .argument('<TRACE...>', 'files of record')
    .addOption(new Option('--text', 'for a terminal (the default)').conflicts(['svg', 'html']))
    .addOption(new Option('--svg', 'a still picture').conflicts('html'))
    .option('--html', 'a page with zoom, and with what is under the pointer')
    .option('-o, --out <FILE>', 'where to; else it is written here')
    .addHelpText('after', '\nEnds with 0 (drawn), 1 (failed), 2 (usage).')
    .action((traces: readonly string[], { svg = false, html = false, out }: { readonly svg?: boolean; readonly html?: boolean; readonly out?: string }) => {
      work = renderCommand({ traces, form: html ? 'html' : svg ? 'svg' : 'text', out, color: screen.color === true }, screen.write);
    });

  for (const command of [program, ...program.commands]) command.configureOutput({ outputError: inOneLine(command) });
  program.parse(args, { from: 'user' });
  return work ?? program.error('error: a command is needed');
}

/** Whatever is wrong with the arguments: one line, which leads on. */
function inOneLine(command: Command): (text: string, write: (text: string) => void) => void {
  const name = command.parent === null ? command.name() : `${command.parent.name()} ${command.name()}`;
  return (text, write) => {
    const line = text.trim().replaceAll(/\s*\n\s*/g, ' ');
    write(`${line}${line.includes('(Did you mean') ? '' : ` (more: ${name} --help)`}\n`);
  };
}

/** What a device can be told. */
const states: readonly State[] = ['running', 'running-p2p', 'pre-copy', 'pre-copy-p2p', 'stop-copy', 'stop', 'resuming'];

function state(text: string, before: readonly State[] = []): readonly State[] {
  const named = states.find((one) => one === text);
  if (named === undefined) throw new InvalidArgumentError(`A state is one of ${states.join(', ')}.`);
  return [...before, named];
}

function address(text: string): string {
  try {
    requireAddress(text);
    return text;
  } catch {
    throw new InvalidArgumentError('It takes tcp://HOST:PORT, unix:/PATH or file:/FOLDER.');
  }
}

function socket(text: string): string {
  if (text.startsWith('unix:') && text.length > 'unix:'.length) return text;
  throw new InvalidArgumentError('It takes unix:/PATH.');
}

const ruleGroups: readonly string[] = [...new Set(conformanceRules.map(({ id }) => id.replace(/-.*/, '')))];

function rule(text: string, before: readonly string[] = []): readonly string[] {
  if (ruleGroups.includes(text) || conformanceRules.some(({ id }) => id === text)) return [...before, text];
  throw new InvalidArgumentError(`The groups are ${ruleGroups.join(', ')}.`);
}

function journal(): Option {
  return new Option('--journal <FILE>', 'where the decision is kept').makeOptionMandatory();
}

function json(): Option {
  return new Option('--json', 'a line of JSON for each event');
}

function patient(patienceMs: number | undefined): { readonly patienceMs?: number } {
  return patienceMs === undefined ? {} : { patienceMs };
}

function dataBytesOf(text: string): number {
  const bytes = Number(text);
  if (text.trim() !== '' && Number.isInteger(bytes) && bytes >= 0 && bytes <= mostDataBytes) return bytes;
  throw new InvalidArgumentError(`It takes a number of bytes, 0 to ${mostDataBytes}.`);
}

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('It takes a number of ms.');
}
