import { createHash } from 'node:crypto';
import { createInterface } from 'node:readline';
import { concatMap, defer, map, of, type Observable } from 'rxjs';
import { realClock } from '../../src/clock.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { VfioError } from '../../src/errors.js';
import { fileJournal } from '../../src/migration/file-journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { InDoubt, MigrationEvent } from '../../src/migration/plan.js';
import { receive } from '../../src/migration/receive.js';
import { resolve } from '../../src/migration/resolve.js';
import { connectTo, listenAt } from '../../src/transport/socket-transport.js';
import type { Transport } from '../../src/transport/transport.js';

/** One side of a migration in a process of its own, that does something at one of its messages; it says what it is asked on stdin. */
const [mode = '', address = '', journalPath = '', at = '-1', when = 'before', what = 'die'] = process.argv.slice(2);
const journal = fileJournal(journalPath);
const bytes = 0x4000;

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function act(close: () => void): void {
  if (what === 'die') process.kill(process.pid, 'SIGKILL');
  else close();
}

/** Each write is one message. */
function acting(transport: Transport): Transport {
  let n = 0;
  return {
    name: transport.name,
    open: (clock) =>
      transport.open(clock).pipe(
        map((connection) => ({
          name: connection.name,
          read: () => connection.read(),
          close: () => { connection.close(); },
          write: (parts) =>
            defer(() => {
              const mine = (n += 1) - 1 === Number(at);
              const cut = (): void => act(() => { connection.close(); });
              if (mine && when === 'before') cut();
              const written = connection.write(parts);
              return mine && when === 'after' ? written.pipe(concatMap(() => defer(() => { cut(); return of(undefined); }))) : written;
            }),
        })),
      ),
  };
}

function transportOf(side: string, where: string): Transport {
  return side === 'source' ? connectTo(where) : listenAt(where, { listening: (listening) => say({ listening }) });
}

function main(device: VfioDevice, digest: () => string): void {
  let doubt: InDoubt | undefined;
  const transport = acting(transportOf(mode, address));
  const deadlines = { check: 20_000, commit: 20_000 };
  const events: Observable<MigrationEvent> =
    mode === 'source' ? migrate({ devices: [{ source: device, destination: 'd' }], transport, journal, deadlines }) : receive({ devices: [{ name: 'd', destination: device }], transport, journal, deadlines });
  events.subscribe({
    next: (event) => {
      if (event.phase === 'in-doubt') doubt = event;
      if (event.phase === 'in-doubt' || event.phase === 'moved') say({ end: event.phase });
    },
    error: (error: unknown) => say({ end: 'failed', code: VfioError.is(error) ? error.code : String(error) }),
  });
  createInterface({ input: process.stdin }).on('line', (line) => {
    const [word, where = ''] = line.split(' ');
    if (word === 'report') say({ state: device.currentState.state, digest: digest() });
    else if (word === 'resolve') doubt?.resolve(transportOf(mode, where)).subscribe({ next: (resolution) => say({ resolution }), error: (error: unknown) => say({ resolution: String(error) }) });
  }).on('close', () => process.exit(0));
}

if (mode.startsWith('resolve-')) {
  resolve({ journal, transport: transportOf(mode.slice('resolve-'.length), address) }).subscribe({ next: (resolution) => say({ resolution }), error: (error: unknown) => say({ resolution: String(error) }) });
} else {
  const software = softwareDevice({ name: mode, regions: [{ index: 0, size: bytes }], remap: false, mailbox: false });
  if (mode === 'source') software.driver.writeRegion(0, 0, Uint8Array.from({ length: bytes }, (_, n) => (n * 7 + 3) & 0xff));
  const digest = (): string => createHash('sha256').update(software.driver.readRegion(0, 0, bytes)).digest('hex');
  openDevice(software, { clock: realClock }).subscribe({ next: (device) => main(device, digest), error: (error: unknown) => { throw error; } });
}
