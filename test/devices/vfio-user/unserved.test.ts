import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concat, delayWhen, map, Subject, throwError } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { softwareDevice } from '../../../src/devices/index.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import type { ReleaseReport } from '../../../src/devices/port.js';
import { serveAt } from '../../../src/devices/vfio-user/user-server.js';
import { VfioError } from '../../../src/errors.js';
import { altered } from '../../support/devices.js';
import { openFds, RawPeer } from '../../support/vfio-user/raw-peer.js';
import { ShortReactor } from '../../support/vfio-user/short-reactor.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-unserved-'));
afterAll(() => rmSync(folder, { recursive: true }));

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

describe('a vfio-user server that has opened a device and cannot serve it', () => {
  it('gives a device back that it cannot serve for want of memory, and serves the next client', async () => {
    const path = join(folder, 'unserved.sock');
    const reactor = new ShortReactor(calls);
    const device = softwareDevice();
    const told: string[] = [];
    const serving = serveAt(path, () => device.open(realClock), { reactor }).subscribe({ next: (event) => told.push(event.kind === 'gone' ? `gone: ${event.error?.code ?? ''}` : event.kind), error: (error: unknown) => { throw error; } });
    closing.push(() => serving.unsubscribe());
    reactor.short = true;
    const fds: number[] = [];
    for (let clients = 0; clients < 3; clients += 1) {
      await RawPeer.connect(path).end();
      expect(device.driver.opens).toBe(0);
      fds.push(openFds());
    }
    expect(fds[2]).toBe(fds[1]);
    reactor.short = false;
    const peer = await RawPeer.agreed(path);
    closing.push(() => peer.close());
    expect(told).toEqual(['listening', ...new Array<string>(3).fill('gone: VFIO_E_LIMIT'), 'connected']);
  });

  it('closes the fd of a client once that it cannot serve, also where it ends before the device is given back', async () => {
    const path = join(folder, 'unserved-late.sock');
    const reactor = new ShortReactor(calls);
    const accepted: number[] = [];
    const closed: number[] = [];
    const binding = {
      ...calls.binding,
      accept: (fd: number) => {
        const one = calls.binding.accept(fd);
        if (one >= 0) accepted.push(one);
        return one;
      },
      close: (fd: number) => {
        closed.push(fd);
        return calls.binding.close(fd);
      },
    };
    const opened = new Subject<void>();
    const released = new Subject<ReleaseReport>();
    const late = () => softwareDevice().open(realClock).pipe(map((port) => altered(port, () => ({ released }))), delayWhen(() => opened));
    const serving = serveAt(path, late, { reactor, calls: new Syscalls(binding) }).subscribe({ error: (error: unknown) => { throw error; } });
    const peer = RawPeer.connect(path);
    while (!opened.observed) await new Promise((resolve) => setImmediate(resolve));
    reactor.short = true;
    opened.next();
    await peer.end();
    serving.unsubscribe();
    expect(closed.filter((fd) => accepted.includes(fd))).toEqual(accepted);
    released.complete();
  });

  it('gives a device back whose opening fails after all', async () => {
    const path = join(folder, 'half-open.sock');
    const device = softwareDevice();
    const told: string[] = [];
    const failing = () => concat(device.open(realClock), throwError(() => new VfioError('VFIO_E_IO', 'half open', { operation: 'open' })));
    const serving = serveAt(path, failing).subscribe({ next: (event) => told.push(event.kind === 'gone' ? `gone: ${event.error?.code ?? ''}, ${device.driver.opens} open` : event.kind), error: (error: unknown) => { throw error; } });
    closing.push(() => serving.unsubscribe());
    await RawPeer.connect(path).end();
    while (told.length < 2) await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual(['listening', 'gone: VFIO_E_IO, 0 open']);
  });
});
