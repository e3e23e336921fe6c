import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tap, throwError } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import type { DeviceAddress } from '../../../src/devices/index.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { errnoError } from '../../../src/errors.js';
import { encodeDeviceInfoQuery } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeUserIrqSet } from '../../../src/devices/vfio-user/messages/set-irqs.js';
import { altered, softwareSource } from '../../support/devices.js';
import { openFds, RawPeer } from '../../support/vfio-user/raw-peer.js';
import { Served } from '../../support/vfio-user/served.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-irqs-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

async function client(device: DeviceAddress): Promise<RawPeer> {
  count += 1;
  const served = new Served(join(folder, `${count}.sock`), device);
  closing.push(() => served.serving.unsubscribe());
  const peer = await RawPeer.agreed(served.path);
  closing.push(() => peer.close());
  return peer;
}

function eventfd(): Eventfd {
  const made = new Eventfd();
  closing.push(() => made.close());
  return made;
}

async function set(peer: RawPeer, index: number, action: 'trigger' | 'unmask', fds: readonly number[], vectors = fds.length): Promise<number | undefined> {
  return (await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ index, action, start: 0, count: vectors, data: 'eventfd' }), fds)).header.errno;
}

/** Each ask is a turn of the server's loop: what has not been signalled after so many never is. */
async function signalled(peer: RawPeer, trigger: Eventfd): Promise<bigint> {
  for (let turns = 0; turns < 20; turns += 1) {
    const count = trigger.read();
    if (count !== undefined) return count;
    await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
  }
  return 0n;
}

/** An irq of the device's own: maskable, and no line that would signal again. */
const own = 5;

describe('irqs of a served device', () => {
  it('lose no signal when an unmask eventfd is handed in later', async () => {
    let raising = false;
    const source = softwareSource({ remap: false, irqs: { device: 2 } }, (port) =>
      altered(port, () => ({ irqInfo: (index) => port.irqInfo(index).pipe(tap(() => raising && source.driver.raise({ index: own, vector: 1 }))) })),
    );
    const peer = await client(source);
    const [first, second] = [eventfd(), eventfd()];
    expect(await set(peer, own, 'trigger', [first.fd, second.fd])).toBeUndefined();
    raising = true;
    expect(await set(peer, own, 'unmask', [eventfd().fd, eventfd().fd])).toBeUndefined();
    raising = false;
    expect([await signalled(peer, second), first.read()]).toEqual([1n, undefined]);
  });

  it('wait for no client that fills an eventfd without O_NONBLOCK', async () => {
    const source = softwareSource({ remap: false, irqs: { device: 1 } });
    const peer = await client(source);
    const trigger = calls.binding.eventfd(0, 0);
    closing.push(() => calls.close(trigger));
    // There is room for one more.
    calls.writeCount(trigger, 2n ** 64n - 3n);
    await set(peer, own, 'trigger', [trigger]);
    for (let signals = 0; signals < 2; signals += 1) source.driver.raise({ index: own });
    for (let turns = 0; turns < 20; turns += 1) await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
    expect(calls.readCount(trigger)).toBe(2n ** 64n - 3n);
    for (let signals = 0; signals < 2; signals += 1) source.driver.raise({ index: own });
    for (let turns = 0; turns < 20; turns += 1) await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
    expect(calls.readCount(trigger)).toBe(2n);
  });

  it('unmask by the eventfd that was handed in last, and by none that was taken back', async () => {
    const source = softwareSource({ remap: false });
    const { driver } = source;
    const peer = await client(source);
    const [trigger, one, two] = [eventfd(), eventfd(), eventfd()];
    await set(peer, 0, 'trigger', [trigger.fd]);
    driver.raise({ index: 0 });
    expect(await signalled(peer, trigger)).toBe(1n);
    await set(peer, 0, 'unmask', [one.fd]);
    one.write(1n);
    expect(await signalled(peer, trigger)).toBe(1n);
    await set(peer, 0, 'unmask', [two.fd]);
    one.write(1n);
    expect([await signalled(peer, trigger), one.read()]).toEqual([0n, 1n]);
    two.write(1n);
    expect(await signalled(peer, trigger)).toBe(1n);
    expect(await set(peer, 0, 'unmask', [], 1)).toBeUndefined();
    two.write(1n);
    expect([await signalled(peer, trigger), two.read()]).toEqual([0n, 1n]);
  });

  it('are served without an unmask eventfd where the device says that it masks, and takes none', async () => {
    const source = softwareSource({ remap: false }, (port) =>
      altered(port, () => ({ irqs: (index, vectors, options) => (options?.ackFd === true ? throwError(() => errnoError('EINVAL', 'VFIO_DEVICE_SET_IRQS')) : port.irqs(index, vectors, options)) })),
    );
    const peer = await client(source);
    const before = openFds();
    const [trigger, unmask] = [eventfd(), eventfd()];
    expect(await set(peer, 0, 'trigger', [trigger.fd])).toBeUndefined();
    source.driver.raise({ index: 0 });
    expect(await signalled(peer, trigger)).toBe(1n);
    expect(await set(peer, 0, 'unmask', [unmask.fd])).toBe(95);
    // Both are here, and one in the server.
    expect(openFds()).toBe(before + 3);
  });

  it('take no unmask eventfds for vectors of which one is not enabled', async () => {
    const peer = await client(softwareSource({ remap: false, irqs: { device: 2 } }));
    const before = openFds();
    expect(await set(peer, own, 'trigger', [eventfd().fd])).toBeUndefined();
    expect(await set(peer, own, 'unmask', [eventfd().fd, eventfd().fd])).toBe(22);
    expect(openFds()).toBe(before + 4);
  });
});
