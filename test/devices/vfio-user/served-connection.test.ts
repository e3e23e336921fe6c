import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { delayWhen, map, Subject, VirtualTimeScheduler, type Observable } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { softwareDevice } from '../../../src/devices/index.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { sharedReactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import type { DevicePort, ReleaseReport } from '../../../src/devices/port.js';
import { encodeDmaMap } from '../../../src/devices/vfio-user/messages/dma.js';
import { encodeUserState } from '../../../src/devices/vfio-user/messages/feature.js';
import { encodeRegionInfoQuery } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeUserIrqSet } from '../../../src/devices/vfio-user/messages/set-irqs.js';
import { versionBoundMs } from '../../../src/devices/vfio-user/served-connection.js';
import { serveAt } from '../../../src/devices/vfio-user/user-server.js';
import { altered, softwareSource } from '../../support/devices.js';
import { openFds, openMaps, RawPeer } from '../../support/vfio-user/raw-peer.js';
import { Served } from '../../support/vfio-user/served.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-connection-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** A port that knows its answers at once and gives them when it is told to: as one whose calls are another thread's, or another process's. */
class LatePort {
  readonly #told = new Subject<void>();
  asked = 0;

  get waitedFor(): boolean {
    return this.#told.observed;
  }

  tell(): void {
    this.#told.next();
  }

  alter(port: DevicePort): DevicePort {
    const late = <A extends readonly unknown[], T>(call: (...args: A) => Observable<T>) => (...args: A): Observable<T> => {
      this.asked += 1;
      return call(...args).pipe(delayWhen(() => this.#told));
    };
    return altered(port, () => ({
      irq: late((line, options) => port.irq(line, options)),
      irqs: late((index, vectors, options) => port.irqs(index, vectors, options)),
      dmaMap: late((request) => port.dmaMap(request)),
      importDma: (memory) => port.importDma?.(memory) as ReturnType<DevicePort['allocateDma']>,
      mapInto: late((region, area, memory) => port.mapInto?.(region, area, memory) as ReturnType<DevicePort['map']>),
      setState: late((to) => port.setState(to)),
    }));
  }
}

describe('a client that goes while the port has not answered', () => {
  const eventfd = (): Eventfd => {
    const made = new Eventfd();
    closing.push(() => made.close());
    return made;
  };
  const irqSet = (index: number, action: 'trigger' | 'unmask') => encodeUserIrqSet({ index, action, start: 0, count: 1, data: 'eventfd' });
  const remapIndex = 5;

  it.each([
    ['DMA_MAP', (peer: RawPeer, fd: number) => peer.command('DMA_MAP', encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true }), { fds: [fd] })],
    ['the eventfd of an irq', (peer: RawPeer) => peer.command('DEVICE_SET_IRQS', irqSet(1, 'trigger'), { fds: [eventfd().fd] })],
    ['both eventfds of a remap irq', async (peer: RawPeer) => {
      await peer.ask('DEVICE_SET_IRQS', irqSet(remapIndex, 'trigger'), [eventfd().fd]);
      peer.command('DEVICE_SET_IRQS', irqSet(remapIndex, 'unmask'), { fds: [eventfd().fd] });
    }],
    ['memory that is to be shared', (peer: RawPeer) => peer.command('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 0, argsz: 256 }))],
    ['device_state', (peer: RawPeer) => peer.command('DEVICE_FEATURE', encodeUserState('set', 'pre-copy'))],
  ] as const)('leaves nothing of %s behind', async (_, ask) => {
    const late = new LatePort();
    const source = softwareSource({ mailbox: false, remap: false, ...(_.includes('remap irq') ? { remap: {} } : {}) }, (port) => late.alter(port));
    count += 1;
    const served = new Served(join(folder, `${count}.sock`), source);
    closing.push(() => served.serving.unsubscribe());
    // A first client, so that what stays for good is there before it is counted.
    const memory = calls.memfd('dma', 4096);
    const fds: number[] = [];
    const maps: number[] = [];
    const slots: number[] = [];
    for (let clients = 1; clients <= 3; clients += 1) {
      const peer = await RawPeer.agreed(served.path);
      late.asked = 0;
      await ask(peer, memory);
      while (late.asked === 0) await new Promise((resolve) => setImmediate(resolve));
      peer.close();
      await served.gone(clients);
      // Nobody waits any more: what the port brings home now is its own to dispose of.
      expect(late.waitedFor).toBe(false);
      late.tell();
      for (const close of closing.splice(1)) close();
      fds.push(openFds());
      maps.push(openMaps());
      slots.push(sharedReactor().counters.slots);
    }
    calls.close(memory);
    for (const counted of [fds, maps, slots]) expect(counted[2]).toBe(counted[1]);
    expect(source.driver.irqs).toBe(0);
  });
});

describe('a client that talks on while its device is not released', () => {
  it('is not heard, and its fds are closed', async () => {
    const released = new Subject<ReleaseReport>();
    const source = softwareSource({ remap: false }, (port) => altered(port, () => ({ released })));
    const served = new Served(join(folder, 'talks-on.sock'), source);
    const peer = await RawPeer.agreed(served.path);
    served.serving.unsubscribe();
    const memory = calls.memfd('dma', 4096);
    const before = openFds();
    for (let times = 0; times < 100; times += 1) peer.command('DMA_MAP', encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true }), { fds: [memory] });
    // All of it lies in the socket: the server reads it in its next turn.
    for (let turns = 0; turns < 10; turns += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(openFds()).toBe(before);
    calls.close(memory);
    released.complete();
    await peer.end();
  });
});

describe('a client that is sent away, and goes while its device is not released', () => {
  it('went for the reason it was sent away for', async () => {
    const released = new Subject<ReleaseReport>();
    const scheduler = new VirtualTimeScheduler();
    scheduler.maxFrames = versionBoundMs;
    const told: (string | undefined)[] = [];
    const open = () => softwareDevice().open({ ...realClock, scheduler }).pipe(map((port) => altered(port, () => ({ released }))));
    const serving = serveAt(join(folder, 'sent-away.sock'), open).subscribe({ next: (event) => told.push(event.kind === 'gone' ? event.error?.code : event.kind), error: (error: unknown) => { throw error; } });
    const peer = RawPeer.connect(join(folder, 'sent-away.sock'));
    while (!told.includes('connected')) await new Promise((resolve) => setImmediate(resolve));
    scheduler.flush();
    expect(released.observed).toBe(true);
    peer.close();
    for (let turns = 0; turns < 10; turns += 1) await new Promise((resolve) => setImmediate(resolve));
    released.complete();
    serving.unsubscribe();
    expect(told).toEqual(['listening', 'connected', 'VFIO_E_DEADLINE']);
  });
});
