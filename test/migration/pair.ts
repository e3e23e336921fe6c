import { map, type Observable } from 'rxjs';
import type { Clock } from '../../src/clock.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { SoftwareVendorDriver } from '../../src/devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { MigrationEvent, MigrationPlan, ReceivePlan } from '../../src/migration/plan.js';
import { receive } from '../../src/migration/receive.js';
import { memoryTransport, type MemoryTransport, type MemoryTransportOptions } from '../../src/transport/memory-transport.js';
import { altered } from '../support/devices.js';
import { countedChannels, type Channels } from './channels.js';

export interface Opened {
  readonly device: VfioDevice;
  readonly driver: SoftwareVendorDriver;
}

interface Counted extends Opened {
  readonly channels: Channels;
}

/** Small, and without demands of its driver: what the tests of a migration move. */
export const small: SoftwareDeviceOptions = { regions: [{ index: 0, size: 0x1000 }, { index: 2, size: 0x2000 }], remap: false, mailbox: false, irqs: { err: true, req: true } };

/** One side's devices, each with contents of its own. */
export function opened(clock: Clock, count: number, options: SoftwareDeviceOptions, side: string, settle: () => void): readonly Counted[] {
  return Array.from({ length: count }, (_, n) => {
    const software = softwareDevice({ ...small, ...options, name: `${side}${n}` });
    const devices: VfioDevice[] = [];
    const channels: Channels = { made: 0, open: 0 };
    openDevice({ open: (own) => software.open(own).pipe(map((port) => altered(port, countedChannels(channels)))) }, { clock }).subscribe({ next: (device) => devices.push(device), error: (error: unknown) => { throw error; } });
    settle();
    const [device] = devices;
    if (device === undefined) throw new Error(`${software.name} did not open`);
    return { device, driver: software.driver, channels };
  });
}

/** What a device holds that a migration moves. */
export function contents({ driver }: Opened): string {
  return Buffer.concat([driver.readRegion(0, 0, 0x1000), driver.readRegion(2, 0, 0x2000)]).toString('hex');
}

/** Bytes that no other device has. */
export function fill({ driver }: Opened, seed: number): void {
  driver.writeRegion(0, 0, Uint8Array.from({ length: 0x1000 }, (_, n) => (n * 7 + seed * 31) & 0xff));
  driver.writeRegion(2, 0, Uint8Array.from({ length: 0x2000 }, (_, n) => (n * 13 + seed * 17) & 0xff));
}

export interface Pair {
  readonly source: readonly Counted[];
  readonly destination: readonly Counted[];
  readonly transport: MemoryTransport;
  readonly sourceJournal: ReturnType<typeof memoryJournal>;
  readonly destinationJournal: ReturnType<typeof memoryJournal>;
  migrate(change?: Partial<MigrationPlan>): Observable<MigrationEvent>;
  receive(change?: Partial<ReceivePlan>): Observable<MigrationEvent>;
}

/** So many devices on each side, and a wire between them. */
export function pair(clock: Clock, count: number, settle: () => void, options: SoftwareDeviceOptions = {}, wire: MemoryTransportOptions = {}): Pair {
  const source = opened(clock, count, options, 'vf', settle);
  const destination = opened(clock, count, options, 'to', settle);
  source.forEach(fill);
  const transport = memoryTransport(wire);
  const sourceJournal = memoryJournal();
  const destinationJournal = memoryJournal();
  return {
    source, destination, transport, sourceJournal, destinationJournal,
    migrate: (change) => migrate({ devices: source.map(({ device }, n) => ({ source: device, destination: `d${n}` })), transport: transport.connecting, journal: sourceJournal, migration: 'm', ...change }),
    receive: (change) => receive({ devices: destination.map(({ device }, n) => ({ name: `d${n}`, destination: device })), transport: transport.listening, journal: destinationJournal, ...change }),
  };
}
