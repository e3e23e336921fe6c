/**
 * What orchestration adds to the downtime: from the last byte that a source's device says in STOP_COPY until RUNNING is requested of the
 * destination's last device. Two processes, a UNIX socket, one migration after the other. Started pinned by run.ts; prints one line of JSON.
 *
 *   downtime.ts send PEER DEVICES COUNT memory|disk SLOW CPU    the source; it starts the other side on CPU
 *   downtime.ts receive FOLDER DEVICES COUNT memory|disk SLOW   the destination, of whose devices so many (the first ones) take 10 ms for each arc
 */
import { subscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, tap } from 'rxjs';
import { realClock } from '../src/clock.js';
import { portChannel, type PortEvent } from '../src/diagnostics.js';
import type { VfioDevice } from '../src/devices/device.js';
import { openDevice, type PortSource } from '../src/devices/open.js';
import type { DataChannel } from '../src/devices/port.js';
import { softwareDevice } from '../src/devices/software/software-device.js';
import { connectTo, fileJournal, listenAt, memoryJournal, migrate, receive, type Journal } from '../src/migration/index.js';
import { OtherSide, ownFolder, say } from './other-side.js';

interface Way {
  readonly folder: string;
  readonly devices: number;
  readonly count: number;
  /** Where the decision is written down. */
  readonly journals: string;
  /** How many of the destination's devices are slow. */
  readonly slow: number;
}

const warmUp = 10;
const slowArcUs = 10_000;

const names = (side: string, devices: number): readonly string[] => Array.from({ length: devices }, (_, n) => `${side}${n}`);
const openAll = (addresses: readonly PortSource[]): Promise<readonly VfioDevice[]> => Promise.all(addresses.map((address) => firstValueFrom(openDevice(address))));
const small = (name: string) => softwareDevice({ name, regions: [{ index: 0, size: 0x1000 }], remap: false });
const journalAt = ({ folder, journals }: Way, file: string): Journal => (journals === 'disk' ? fileJournal(join(folder, file)) : memoryJournal());

function slowOne(name: string): PortSource {
  const software = small(name);
  software.driver.faults.arcLatencyUs = slowArcUs;
  return software;
}

/** A software device whose every byte is noted. */
function noting(name: string, noted: () => void): PortSource {
  const software = small(name);
  const watch = (data: DataChannel): void => {
    const read = data.read.bind(data);
    data.read = (most) => read(most).pipe(tap(({ kind }) => {
      if (kind === 'bytes') noted();
    }));
  };
  return {
    open: (clock) => software.open(clock).pipe(tap((port) => {
      const setState = port.setState.bind(port);
      port.setState = (state) => setState(state).pipe(tap(({ data }) => {
        if (data !== undefined) watch(data);
      }));
    })),
  };
}

async function send(way: Way, peer: string, cpu: string): Promise<void> {
  const { folder, devices, count, journals, slow } = way;
  const other = new OtherSide(peer, cpu, 'downtime.js', 'receive', folder, String(devices), String(count), journals, String(slow));
  const times: number[] = [];
  for (let n = -warmUp; n < count; n += 1) {
    let lastNs = 0n;
    const sources = await openAll(names('vf', devices).map((name) => noting(name, () => (lastNs = realClock.nowNs()))));
    const { listening } = await other.says<{ readonly listening: string }>();
    const plan = { devices: sources.map((source, place) => ({ source, destination: `to${place}` })), transport: connectTo(listening), journal: journalAt(way, 'from.journal') };
    await lastValueFrom(migrate(plan));
    const { ranNs } = await other.says<{ readonly ranNs: string }>();
    if (n >= 0) times.push(Number(BigInt(ranNs) - lastNs));
    await Promise.all(sources.map((source) => source.close()));
  }
  const sorted = times.toSorted((a, b) => a - b);
  const percentile = (percent: number): number => sorted[Math.floor((sorted.length * percent) / 100)] ?? Number.NaN;
  say({ p50Ns: percentile(50), p99Ns: percentile(99) });
}

async function take(way: Way): Promise<void> {
  let ranNs = 0n;
  subscribe(portChannel.name, (message) => {
    const { lane, label, phase, atNs } = message as PortEvent;
    if (lane === 'state' && label === 'running' && phase === 'begin') ranNs = atNs;
  });
  for (let n = -warmUp; n < way.count; n += 1) {
    const destinations = await openAll(names('to', way.devices).map((name, place) => (place < way.slow ? slowOne(name) : small(name))));
    const devices = destinations.map((destination) => ({ name: destination.name, destination }));
    const transport = listenAt(`unix:${join(way.folder, String(n))}`, { listening: (listening) => say({ listening }) });
    await lastValueFrom(receive({ devices, transport, journal: journalAt(way, 'to.journal') }));
    say({ ranNs: String(ranNs) });
    await Promise.all(destinations.map((destination) => destination.close()));
  }
}

const [mode, first = '', devices = '1', count = '200', journals = 'memory', slow = '0', cpu = '0'] = process.argv.slice(2);
const way = { devices: Number(devices), count: Number(count), journals, slow: Number(slow) };
if (mode === 'send') await send({ ...way, folder: ownFolder() }, first, cpu);
else if (mode === 'receive') await take({ ...way, folder: first });
else throw new Error(`unknown mode ${String(mode)}`);
