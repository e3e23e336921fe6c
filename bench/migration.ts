/**
 * Device state from one process to another: how fast, and in how much memory. The device is a software device whose state is made as it
 * is read, and forgotten as it is loaded, so that all memory is the migration's. Started pinned by run.ts; prints one line of JSON.
 *
 *   migration.ts send PEER unix|tcp MIB BEFORE CPU    the source; it starts the other side on CPU; so many others come before the one that is measured
 *   migration.ts receive ADDRESS COUNT                the destination
 */
import { join } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { firstValueFrom, type Observable } from 'rxjs';
import { openDevice } from '../src/devices/open.js';
import { connectTo, listenAt, memoryJournal, migrate, receive, type MigrationEvent } from '../src/migration/index.js';
import { softwareDevice } from '../src/devices/software/software-device.js';
import { OtherSide, ownFolder, residentMib, say } from './other-side.js';

interface Memory {
  /** The peak of resident memory above what there was before the migration, MiB. */
  readonly residentMib: number;
  /** The most that lay outside of the heap at once, beyond what did before, MiB. */
  readonly externalMib: number;
  readonly cpuSeconds: number;
}

const mib = 2 ** 20;
const sampleMs = 10;

/** Watches the memory of a migration until it ends. */
async function watched(events: Observable<MigrationEvent>, told: (event: MigrationEvent) => void): Promise<Memory> {
  const idleMib = residentMib('VmRSS');
  const external = (): number => getHeapStatistics().external_memory;
  const before = external();
  const cpu = process.cpuUsage();
  let peak = before;
  const sampling = setInterval(() => (peak = Math.max(peak, external())), sampleMs);
  await events.forEach(told);
  clearInterval(sampling);
  const { user, system } = process.cpuUsage(cpu);
  return { residentMib: residentMib('VmHWM') - idleMib, externalMib: (peak - before) / mib, cpuSeconds: (user + system) / 1e6 };
}

/** One migration; what it took. */
async function sendOnce(destination: OtherSide, size: number): Promise<object> {
  const software = softwareDevice({ name: 'from', remap: false });
  software.driver.preCopy.initialBytes = size * mib;
  const source = await firstValueFrom(openDevice(software));
  const { listening } = await destination.says<{ readonly listening: string }>();
  // From the first byte that could be read until the other side had everything, and had loaded it.
  let [beganNs, preparedNs] = [0n, 0n];
  const watching = source.state.subscribe({
    next: ({ state, sinceNs }) => {
      if (state === 'pre-copy') beganNs = sinceNs;
    },
    error: (error: unknown) => { throw error; },
  });
  const plan = { devices: [{ source, destination: 'to' }], transport: connectTo(listening), journal: memoryJournal() };
  const here = await watched(migrate(plan), ({ phase, atNs }) => {
    if (phase === 'commit') preparedNs = atNs;
  });
  const there = await destination.says<Memory>();
  watching.unsubscribe();
  await source.close();
  const seconds = Number(preparedNs - beganNs) / 1e9;
  return {
    mibPerSecond: Math.round(size / seconds), mibPerCpuSecond: Math.round(size / (here.cpuSeconds + there.cpuSeconds)),
    sourceMib: here.residentMib, sourceExternalMib: here.externalMib, destinationMib: there.residentMib, destinationExternalMib: there.externalMib,
  };
}

async function send(peer: string, kind: string, size: number, before: number, cpu: string): Promise<void> {
  const destination = new OtherSide(peer, cpu, 'migration.js', 'receive', kind === 'unix' ? `unix:${join(ownFolder(), 'socket')}` : 'tcp://127.0.0.1:0', String(before + 1));
  for (let n = 0; n < before; n += 1) await sendOnce(destination, size);
  say(await sendOnce(destination, size));
}

async function take(address: string, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const destination = await firstValueFrom(openDevice(softwareDevice({ name: 'to', remap: false })));
    const transport = listenAt(address, { listening: (listening) => say({ listening }) });
    say(await watched(receive({ devices: [{ name: 'to', destination }], transport, journal: memoryJournal() }), () => undefined));
    await destination.close();
  }
}

const [mode, ...args] = process.argv.slice(2);
if (mode === 'send') await send(args[0] ?? '', args[1] ?? 'unix', Number(args[2]), Number(args[3]), args[4] ?? '0');
else if (mode === 'receive') await take(args[0] ?? '', Number(args[1]));
else throw new Error(`unknown mode ${String(mode)}`);
