import { Command, InvalidArgumentError, Option } from 'commander';
import type { Observable } from 'rxjs';
import { softwareDevice } from '../devices/software/software-device.js';
import { migrateCommand, receiveCommand, resolveCommand } from './commands.js';
import { conformanceCommand } from './conformance.js';
import { parseDevice } from './devices.js';
import { serveCommand } from './serve.js';
import type { Screen } from './show.js';
import { tlsOf, withTls, type TlsFlags } from './tls.js';

const devices = `
DEVICE   a PCI address, an mdev uuid, group:N, vfio-user:PATH, trace:FILE, or a device in this process: software:NAME?bytes=N&seed=N&version=1,
         each of these if wanted; =NAME behind a device names it at the other end`;
const addresses = `
ADDRESS  tcp://HOST:PORT or unix:/PATH`;
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
    .description('VFIO devices: migrate them, and check the drivers of those that can be')
    .exitOverride()
    .configureOutput({ writeOut: screen.write })
    .helpCommand(false);

  const migrate = withTls(program.command('migrate')).description('moves devices to a receive elsewhere')
    .argument('<DEVICE...>', 'which')
    .requiredOption('--to <ADDRESS>', 'of the receive')
    .addOption(journal())
    .option('--downtime <MS>', 'how long nothing may run', positive)
    .option('--patience <MS>', 'how long a phase may take', positive)
    .option('--no-peer-to-peer', 'the devices do no DMA to one another')
    .addOption(json())
    .addHelpText('after', `${devices}${addresses}\n\nCtrl-C aborts in order: before the decision the source runs again.${migrationEnds}`)
    .action((named: readonly string[], { to, downtime, patience, peerToPeer, ...rest }: TlsFlags & { readonly to: string; readonly journal: string; readonly downtime?: number; readonly patience?: number; readonly peerToPeer: boolean; readonly json?: boolean }) => {
      work = migrateCommand({ devices: named, address: to, journal: rest.journal, noPeerToPeer: !peerToPeer, ...tlsOf(migrate, rest), ...(downtime === undefined ? {} : { downtimeLimitMs: downtime }), ...patient(patience) }, shown(rest.json), interrupt);
    });

  const receive = withTls(program.command('receive')).description('takes devices from a migrate elsewhere, and runs them until Ctrl-C')
    .argument('<DEVICE...>', 'which')
    .requiredOption('--at <ADDRESS>', 'where to listen')
    .addOption(journal())
    .option('--patience <MS>', 'how long a phase may take', positive)
    .option('--exit', 'end when they have been moved')
    .addOption(json())
    .addHelpText('after', `${devices}${addresses}\n${migrationEnds}`)
    .action((named: readonly string[], { at, exit = false, patience, ...rest }: TlsFlags & { readonly at: string; readonly journal: string; readonly patience?: number; readonly exit?: boolean; readonly json?: boolean }) => {
      work = receiveCommand({ devices: named, address: at, journal: rest.journal, exit, ...tlsOf(receive, rest), ...patient(patience) }, shown(rest.json), interrupt);
    });

  const resolve = withTls(program.command('resolve')).description('ends what a process that died has left in doubt')
    .addOption(new Option('--to <ADDRESS>', 'of a resolve at the other end').conflicts('at'))
    .option('--at <ADDRESS>', 'where to listen for one')
    .addOption(journal())
    .addOption(json())
    .addHelpText('after', `${addresses}\n${migrationEnds}`)
    .action(({ to, at, ...rest }: TlsFlags & { readonly to?: string; readonly at?: string; readonly journal: string; readonly json?: boolean }) => {
      const address = at ?? to ?? resolve.error('error: --to or --at is needed');
      work = resolveCommand({ address, journal: rest.journal, listen: at !== undefined, ...tlsOf(resolve, rest) }, shown(rest.json));
    });

  program.command('serve').description('serves a device by vfio-user, to one client after the other, until Ctrl-C')
    .argument('<DEVICE>', 'which; software for the sample device in this process')
    .argument('<ADDRESS>', 'unix:PATH; the device there is vfio-user:PATH')
    .addOption(json())
    .addHelpText('after', `${devices}\n\nEnds with 0 (Ctrl-C), 1 (failed), 2 (usage).`)
    .action((text: string, at: string, { json: asJson }: { readonly json?: boolean }) => {
      const { name, address } = text === 'software' ? { name: text, address: softwareDevice() } : parseDevice(text);
      work = serveCommand({ name, address, at }, shown(asJson), interrupt);
    });

  program.command('conformance').description("goes every way of device_state that a device's flags allow, and says which rules its driver keeps")
    .argument('<DEVICE>', 'a PCI address, an mdev uuid, group:N, vfio-user:PATH, or software')
    .addOption(json().conflicts('junit'))
    .option('--junit', 'JUnit XML')
    .option('--destructive', 'also the rules that may hurt the device')
    .option('--patience <MS>', 'how long one call may take', positive)
    .addHelpText('after', '\nEnds with 0 (no rule is broken), 1 (some are), 2 (usage).')
    .action((name: string, { json: asJson = false, junit = false, destructive = false, patience }: { readonly json?: boolean; readonly junit?: boolean; readonly destructive?: boolean; readonly patience?: number }) => {
      work = conformanceCommand({
        address: name === 'software' ? softwareDevice() : name,
        name,
        form: asJson ? 'json' : junit ? 'junit' : 'lines',
        destructive,
        ...patient(patience),
      }, screen.write);
    });

  program.parse(args, { from: 'user' });
  return work ?? program.error('error: a command is needed');
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

function positive(text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('It takes a number of ms.');
}
