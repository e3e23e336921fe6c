import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concatMap, map, Subject, take } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { serveDevice, softwareDevice, type SoftwareDevice, type SoftwareDeviceOptions } from '../../../src/devices/index.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { mapRegion } from '../../../src/devices/linux/mapped-memory.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { readIrqInfo } from '../../../src/devices/uapi/irq-info.js';
import { readRegionInfo } from '../../../src/devices/uapi/region-info.js';
import { encodeDmaMap } from '../../../src/devices/vfio-user/messages/dma.js';
import { encodeUserState, readUserState } from '../../../src/devices/vfio-user/messages/feature.js';
import { encodeDeviceInfoQuery, encodeIrqInfoQuery, encodeRegionInfoQuery } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeRegionAccess } from '../../../src/devices/vfio-user/messages/region-access.js';
import { encodeUserIrqSet } from '../../../src/devices/vfio-user/messages/set-irqs.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';
import { serveAt } from '../../../src/devices/vfio-user/user-server.js';
import { altered, alteredIrq, softwareSource } from '../../support/devices.js';
import { openFds, RawPeer } from '../../support/vfio-user/raw-peer.js';
import { ShortReactor } from '../../support/vfio-user/short-reactor.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-remaps-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

interface Client {
  readonly device: SoftwareDevice;
  readonly peer: RawPeer;
}

async function served(options: SoftwareDeviceOptions = {}, version = encodeVersion(ownVersion)): Promise<Client> {
  count += 1;
  const path = join(folder, `${count}.sock`);
  const device = softwareDevice({ mailbox: false, ...options });
  const serving = serveDevice(device, path).subscribe();
  closing.push(() => serving.unsubscribe());
  const peer = await RawPeer.agreed(path, version);
  closing.push(() => peer.close());
  return { device, peer };
}

const plain = encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, remap: false } });
const remapIndex = 5;

function eventfd(): Eventfd {
  const made = new Eventfd();
  closing.push(() => made.close());
  return made;
}

function register(peer: RawPeer, action: 'trigger' | 'unmask', fds: readonly number[], index = remapIndex) {
  return peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ index, action, start: 0, count: 1, data: 'eventfd' }), fds);
}

async function errnoOf(peer: RawPeer, action: 'trigger' | 'unmask', fds: readonly number[]): Promise<number | undefined> {
  return (await register(peer, action, fds)).header.errno;
}

/** When the device has told something: each ask is a turn of the loop. */
async function until(peer: RawPeer, happened: () => boolean): Promise<void> {
  while (!happened()) await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
}

async function blocked({ device, peer }: Client): Promise<{ readonly ack: Eventfd; readonly id: number; readonly trigger: Eventfd }> {
  const [trigger, ack] = [eventfd(), eventfd()];
  await register(peer, 'trigger', [trigger.fd]);
  await register(peer, 'unmask', [ack.fd]);
  const id = peer.command('DEVICE_FEATURE', encodeUserState('set', 'stop-copy'));
  await until(peer, () => device.driver.waiters === 1);
  return { trigger, ack, id };
}

describe('a server whose device demands remaps', () => {
  it('shows the remap irq to who speaks of remaps, and to nobody else', async () => {
    const info = async ({ peer }: Client) => readIrqInfo((await peer.ask('DEVICE_GET_IRQ_INFO', encodeIrqInfoQuery(remapIndex, 256))).payload, remapIndex);
    expect(await info(await served())).toMatchObject({ count: 1, remap: { subtype: 'region-remap', page: 0, regions: 3n, noAck: false } });
    expect(await info(await served({}, plain))).toMatchObject({ count: 0, flags: 0 });
    for (const remap of [{ ack: 'none' }, { profile: 'rfc-v4' }] as const) expect(await info(await served({ remap }))).toMatchObject({ count: 0, flags: 0 });
  });

  it('answers a plain client in order, and refuses at once what would need a remap: nothing hangs', async () => {
    const { device, peer } = await served({}, plain);
    expect((await register(peer, 'trigger', [eventfd().fd])).header.errno).toBe(22);
    const [set, info] = [peer.command('DEVICE_FEATURE', encodeUserState('set', 'stop-copy')), peer.command('DEVICE_GET_INFO', encodeDeviceInfoQuery())];
    const replies = [await peer.next(), await peer.next()];
    expect(replies.map(({ header }) => [header.id, header.errno])).toEqual([[set, 1], [info, undefined]]);
    expect(device.driver.state).toBe('running');
  });

  it('while a write of device_state is unanswered it answers everything else', async () => {
    const one = await served();
    const { device, peer } = one;
    const { ack, id, trigger } = await blocked(one);
    const memory = calls.memfd('dma', 4096);
    const errnos: (number | undefined)[] = [];
    for (const [name, payload, fds] of [
      ['DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 0, argsz: 256 }), []],
      ['DEVICE_GET_IRQ_INFO', encodeIrqInfoQuery(1), []],
      ['REGION_WRITE', encodeRegionAccess({ region: 2, offset: 0, count: 1 }, Uint8Array.of(7)), []],
      ['REGION_READ', encodeRegionAccess({ region: 2, offset: 0, count: 1 }), []],
      ['DEVICE_SET_IRQS', encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 1, data: 'eventfd' }), [eventfd().fd]],
      ['DMA_MAP', encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true }), [memory]],
    ] as const) errnos.push((await peer.ask(name, payload, fds)).header.errno);
    calls.close(memory);
    expect(errnos).toEqual(Array.from({ length: 6 }, () => undefined));
    expect(device.driver.waiters).toBe(1);
    // What is about device_state waits, and beyond a bound it does not even that.
    const more = Array.from({ length: 17 }, () => peer.command('DEVICE_FEATURE', encodeUserState('get')));
    const refused = await peer.next();
    expect([refused.header.id, refused.header.errno]).toEqual([more.at(-1), 16]);
    ack.write(trigger.read() ?? 0n);
    const reply = await peer.next();
    expect([reply.header.id, readUserState(reply.payload)]).toEqual([id, 'stop-copy']);
    for (const waiting of more.slice(0, -1)) {
      const got = await peer.next();
      expect([got.header.id, readUserState(got.payload)]).toEqual([waiting, 'stop-copy']);
    }
    expect([device.driver.acked, device.driver.violations]).toEqual([1n, 0]);
  });

  it.each(['the trigger’s eventfd', 'the ack’s eventfd', 'the irq'] as const)('a client that takes away %s frees the write', async (what) => {
    const one = await served({ remap: { ackTimeoutMs: 30_000 } });
    const { id } = await blocked(one);
    const off = encodeUserIrqSet({ index: remapIndex, action: 'trigger', start: 0, count: 0, data: 'none' });
    const asked = what === 'the irq' ? one.peer.ask('DEVICE_SET_IRQS', off) : register(one.peer, what === 'the ack’s eventfd' ? 'unmask' : 'trigger', []);
    const replies = [await asked, await one.peer.next()];
    expect(replies.find(({ header }) => header.id === id)?.header.errno).toBe(125);
    expect([one.device.driver.waiters, one.device.driver.irqs]).toEqual([0, 0]);
  });

  it('takes fresh eventfds only, each in one role, and counts the irq as registered when both are there', async () => {
    const { device, peer } = await served();
    const before = openFds();
    const [old, one, two] = [eventfd(), eventfd(), eventfd()];
    old.write(1n);
    const semaphore = calls.binding.eventfd(0, 1 | 0o4000 | 0o2000000);
    const memory = calls.memfd('none', 4096);
    const errnos = [
      await errnoOf(peer, 'trigger', [old.fd]), await errnoOf(peer, 'trigger', [memory]), await errnoOf(peer, 'unmask', [semaphore]),
      await errnoOf(peer, 'unmask', [one.fd]), await errnoOf(peer, 'trigger', [two.fd]),
    ];
    // A trigger takes the ack along that was there before.
    expect([errnos, device.driver.irqs]).toEqual([[16, 22, 22, undefined, undefined], 0]);
    expect([await errnoOf(peer, 'unmask', [two.fd]), device.driver.irqs]).toEqual([22, 0]);
    expect([await errnoOf(peer, 'unmask', [one.fd]), device.driver.irqs]).toEqual([undefined, 2]);
    expect([await errnoOf(peer, 'unmask', [old.fd]), device.driver.irqs]).toEqual([16, 0]);
    expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ index: remapIndex, action: 'trigger', start: 0, count: 1, data: 'none' }))).header.errno).toBe(25);
    for (const fd of [semaphore, memory]) calls.close(fd);
    await register(peer, 'trigger', []);
    expect(openFds()).toBe(before + 3);
  });

  it('an ack of more than was sent takes nothing home', async () => {
    const one = await served({ remap: { ackTimeoutMs: 30_000 } });
    const { device, peer } = one;
    const shown = await peer.ask('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 0, argsz: 256 }));
    const { areas } = readRegionInfo(shown.payload, 0);
    const file = shown.fds[0] ?? -1;
    closing.push(() => calls.close(file));
    const view = mapRegion(file, 0n, 0x1_0000, { read: true, write: true }, calls);
    closing.push(() => view.close());
    const { ack } = await blocked(one);
    ack.write(5n);
    await until(peer, () => device.driver.violations === 1);
    new Uint8Array(view.memory)[3] = 9;
    expect([areas, [...device.driver.readRegion(0, 3, 1)]]).toEqual([[{ offset: 0, size: 0x1_0000 }], [9]]);
    ack.write(1n);
    await until(peer, () => device.driver.waiters === 0);
    new Uint8Array(view.memory)[3] = 10;
    expect([...device.driver.readRegion(0, 3, 1)]).toEqual([9]);
    // Nobody can make it shorter: this process would end by it.
    expect(() => calls.pwrite(file, Uint8Array.of(1), 0x1_0000n)).toThrow();
  });

  /** What the client sees of region 0, and keeps mapped whatever becomes of it. */
  async function mapped({ peer }: Client): Promise<Uint8Array> {
    const { fds } = await peer.ask('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 0, argsz: 256 }));
    const [file = -1] = fds;
    const view = mapRegion(file, 0n, 0x1_0000, { read: true, write: true }, calls);
    calls.close(file);
    closing.push(() => view.close());
    return new Uint8Array(view.memory);
  }

  const off = encodeUserIrqSet({ index: remapIndex, action: 'trigger', start: 0, count: 0, data: 'none' });

  it('takes home what it has revoked and nobody has acked, when the irq is turned off', async () => {
    const one = await served();
    const { device, peer } = one;
    const bytes = await mapped(one);
    const [trigger, ack] = [eventfd(), eventfd()];
    await register(peer, 'trigger', [trigger.fd]);
    await register(peer, 'unmask', [ack.fd]);
    device.driver.revoke(0);
    bytes[3] = 7;
    expect([...device.driver.readRegion(0, 3, 1)]).toEqual([7]);
    expect((await peer.ask('DEVICE_SET_IRQS', off)).header.errno).toBeUndefined();
    bytes[3] = 8;
    expect([...device.driver.readRegion(0, 3, 1)]).toEqual([7]);
    // It is there again as soon as it is offered again.
    device.driver.restore(0);
    await peer.ask('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 0, argsz: 256 })).then(({ fds }) => fds.forEach((fd) => calls.close(fd)));
    bytes[3] = 9;
    expect([...device.driver.readRegion(0, 3, 1)]).toEqual([9]);
  });

  it('leaves shared what a wait had asked for that fails by turning the irq off', async () => {
    const one = await served({ remap: { ackTimeoutMs: 30_000 } });
    const { device, peer } = one;
    const bytes = await mapped(one);
    await blocked(one);
    await peer.ask('DEVICE_SET_IRQS', off);
    await until(peer, () => device.driver.waiters === 0);
    bytes[3] = 8;
    expect([...device.driver.readRegion(0, 3, 1)]).toEqual([8]);
  });

  it('is not turned off by an ack that ends late, of a registration that is over', async () => {
    const late = new Subject<void>();
    const source = softwareSource({ mailbox: false, remap: { ackTimeoutMs: 30_000 } }, (port) =>
      altered(port, () => ({
        irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, { ack: (count) => late.pipe(take(1), concatMap(() => handle.ack(count))) }))),
      })),
    );
    const path = join(folder, 'late-ack.sock');
    const serving = serveDevice(source, path).subscribe({ error: (error: unknown) => { throw error; } });
    closing.push(() => serving.unsubscribe());
    const peer = await RawPeer.agreed(path);
    closing.push(() => peer.close());
    const [trigger, ack] = [eventfd(), eventfd()];
    await register(peer, 'trigger', [trigger.fd]);
    await register(peer, 'unmask', [ack.fd]);
    source.driver.revoke(0);
    ack.write(1n);
    await until(peer, () => late.observed);
    await register(peer, 'trigger', [eventfd().fd]);
    await register(peer, 'unmask', [eventfd().fd]);
    late.next();
    await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
    expect([source.driver.irqs, source.driver.acked]).toEqual([2, 0n]);
  });

  it('is not left without a way for its acks, where the server has no room to hear them', async () => {
    const reactor = new ShortReactor(calls);
    const device = softwareDevice({ mailbox: false });
    const path = join(folder, 'short.sock');
    const serving = serveAt(path, () => device.open(realClock), { reactor }).subscribe({ error: (error: unknown) => { throw error; } });
    closing.push(() => serving.unsubscribe());
    const peer = await RawPeer.agreed(path);
    closing.push(() => peer.close());
    await register(peer, 'trigger', [eventfd().fd]);
    reactor.short = true;
    expect((await register(peer, 'unmask', [eventfd().fd])).header.errno).toBe(12);
    expect(device.driver.irqs).toBe(0);
    reactor.short = false;
    expect((await register(peer, 'unmask', [eventfd().fd])).header.errno).toBeUndefined();
    expect(device.driver.irqs).toBe(2);
  });
});
