import { createInterface } from 'node:readline';
import type { Observable } from 'rxjs';
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
import type { Connection, Transport } from '../../src/transport/transport.js';
import { acting, type Said } from './acting.js';
import { digestOf, sourceState, type SideOrder } from './side-order.js';

/** One side of a migration in a process of its own, that may do something at one spot of it; it says what it is asked on stdin. */
const order = JSON.parse(process.argv[2] ?? '{}') as SideOrder;
const journal = fileJournal(order.journal);

function say(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

function act(connection: Connection): void {
  if (order.act?.what === 'die') process.kill(process.pid, 'SIGKILL');
  else connection.close();
}

function transportAt(where: string): Transport {
  return order.side === 'source' ? connectTo(where) : listenAt(where, { listening: (listening) => say({ listening }) });
}

function tell(asked: Observable<unknown> | undefined): void {
  asked?.subscribe({ next: (resolution) => say({ resolution }), error: (error: unknown) => say({ resolution: String(error) }) });
}

function main(device: VfioDevice, digest: () => string): void {
  let doubt: InDoubt | undefined;
  const said: Said = [];
  const transport = acting(transportAt(order.address), order.act, act, said);
  const deadlines = { check: 20_000, commit: 20_000 };
  const events: Observable<MigrationEvent> =
    order.side === 'source' ? migrate({ devices: [{ source: device, destination: 'd' }], transport, journal, deadlines }) : receive({ devices: [{ name: 'd', destination: device }], transport, journal, deadlines });
  events.subscribe({
    next: (event) => {
      if (event.phase === 'in-doubt') doubt = event;
      if (event.phase === 'in-doubt' || event.phase === 'moved') say({ end: event.phase });
    },
    error: (error: unknown) => say({ end: 'failed', code: VfioError.is(error) ? error.code : String(error) }),
  });
  createInterface({ input: process.stdin }).on('line', (line) => {
    const [word, where = ''] = line.split(' ');
    if (word === 'report') say({ report: { state: device.currentState.state, digest: digest(), said } });
    else if (word === 'resolve') tell(doubt?.resolve(transportAt(where)));
  }).on('close', () => process.exit(0));
}

if (order.resolving) tell(resolve({ journal, transport: transportAt(order.address) }));
else {
  const software = softwareDevice({ name: order.side, regions: [{ index: 0, size: sourceState.length }], remap: false, mailbox: false });
  if (order.side === 'source') software.driver.writeRegion(0, 0, sourceState);
  const digest = (): string => digestOf(software.driver.readRegion(0, 0, sourceState.length));
  openDevice(software, { clock: realClock }).subscribe({ next: (device) => main(device, digest), error: (error: unknown) => { throw error; } });
}
