import fc from 'fast-check';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { constants } from 'node:os';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { ignoreElements, map, Observable, Subject, tap, VirtualTimeScheduler } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { pciDevice, serveDevice, softwareDevice, type SoftwareDevice } from '../../../src/devices/index.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import type { DevicePort, ReleaseReport } from '../../../src/devices/port.js';
import { encodeDmaMap, encodeDmaUnmap } from '../../../src/devices/vfio-user/messages/dma.js';
import { encodeLoggingStart, encodeUserState } from '../../../src/devices/vfio-user/messages/feature.js';
import { commands, encodeMessage, maxMessageBytes } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeDeviceInfoQuery, encodeIrqInfoQuery, encodeRegionInfoQuery } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeRegionAccess, encodeWriteMulti } from '../../../src/devices/vfio-user/messages/region-access.js';
import { encodeUserIrqSet } from '../../../src/devices/vfio-user/messages/set-irqs.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';
import { serveAt } from '../../../src/devices/vfio-user/user-server.js';
import { realClock } from '../../../src/clock.js';
import { warningChannel, type Warning } from '../../../src/diagnostics.js';
import { VfioError } from '../../../src/errors.js';
import { altered } from '../../support/devices.js';
import { openFds, RawPeer } from '../../support/vfio-user/raw-peer.js';
import { hostile } from '../../support/vfio-user/hostile.js';
import { Served } from '../../support/vfio-user/served.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-server-'));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

function serve(path: string): Served<SoftwareDevice> {
  return new Served(path, softwareDevice({ remap: false, dmaLogging: 4096 }));
}

function served(): Served<SoftwareDevice> {
  count += 1;
  const one = serve(join(folder, `${count}.sock`));
  closing.push(() => one.serving.unsubscribe());
  return one;
}

async function client(path: string): Promise<RawPeer> {
  const peer = await RawPeer.agreed(path);
  closing.push(() => peer.close());
  return peer;
}

describe('a vfio-user server', () => {
  it('agrees on 0.0, and answers each command by its id', async () => {
    const { path } = served();
    const peer = RawPeer.connect(path);
    closing.push(() => peer.close());
    const version = await peer.ask('VERSION', encodeVersion({ ...ownVersion, minor: 2 }));
    expect([...version.payload.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect(version.payload.length + 16).toBeLessThanOrEqual(214);
    const info = await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery());
    expect([...new Uint32Array(info.payload.slice().buffer)]).toEqual([16, 3, 9, 6]);
    expect(info.header).toMatchObject({ id: 2, reply: true, errno: undefined });
  });

  it('shows unused regions and irqs as empty ones, and of the others as much as the client takes', async () => {
    const peer = await client(served().path);
    const sizeOf = async (index: number): Promise<bigint> => new DataView((await peer.ask('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index, argsz: 32 }))).payload.slice().buffer).getBigUint64(16, true);
    expect(await Promise.all([0, 3, 8].reduce<Promise<bigint>[]>((all, index) => [...all, (all.at(-1) ?? Promise.resolve(0n)).then(() => sizeOf(index))], []))).toEqual([0x1_0000n, 0n, 0n]);
    expect((await peer.ask('DEVICE_GET_REGION_INFO', encodeRegionInfoQuery({ index: 9, argsz: 32 }))).header.errno).toBe(22);
    const irq = await peer.ask('DEVICE_GET_IRQ_INFO', encodeIrqInfoQuery(3));
    expect([...new Uint32Array(irq.payload.slice().buffer)]).toEqual([16, 0, 3, 0]);
    expect((await peer.ask('DEVICE_GET_REGION_IO_FDS', encodeRegionInfoQuery({ index: 0, argsz: 16 }))).payload).toHaveLength(16);
  });

  it('never answers a command that wants no reply, not even one that fails', async () => {
    const peer = await client(served().path);
    peer.command('REGION_WRITE', encodeRegionAccess({ region: 2, offset: 0, count: 1 }, Uint8Array.of(7)), { noReply: true });
    peer.command('REGION_WRITE', encodeRegionAccess({ region: 99, offset: 0, count: 1 }, Uint8Array.of(7)), { noReply: true });
    peer.command('REGION_WRITE_MULTI', encodeWriteMulti([{ region: 2, offset: 1, data: Uint8Array.of(8) }, { region: 2, offset: 2, data: Uint8Array.of(9) }]), { noReply: true });
    const read = await peer.ask('REGION_READ', encodeRegionAccess({ region: 2, offset: 0, count: 3 }));
    expect([...read.payload.subarray(16)]).toEqual([7, 8, 9]);
  });

  it('answers what it cannot do by errno, and goes on', async () => {
    const { path } = served();
    const peer = await client(path);
    const errnos: (number | undefined)[] = [];
    for (const [name, payload] of [
      [99, undefined],
      ['DMA_READ', new Uint8Array(16)],
      ['REGION_READ', new Uint8Array(3)],
      ['REGION_READ', encodeRegionAccess({ region: 2, offset: 4095, count: 2 })],
      ['REGION_READ', encodeRegionAccess({ region: 2, offset: 0, count: 1 << 21 })],
      ['DEVICE_GET_IRQ_INFO', encodeIrqInfoQuery(77)],
      ['DEVICE_SET_IRQS', encodeUserIrqSet({ index: 1, action: 'mask', start: 0, count: 1, data: 'none' })],
      ['DEVICE_SET_IRQS', encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 60_000, data: 'eventfd' })],
      ['DMA_MAP', encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true })],
      ['DMA_UNMAP', encodeDmaUnmap({ iova: 0n, size: 4096 })],
      ['DEVICE_FEATURE', new Uint8Array(8)],
      ['MIG_DATA_READ', new Uint8Array(8)],
      ['DEVICE_FEATURE', encodeUserState('set', 'error')],
    ] as const) errnos.push((await peer.ask(name, payload)).header.errno);
    expect(errnos).toEqual([22, 22, 22, 22, 22, 22, 22, 22, 95, 2, 22, 22, 22]);
    expect((await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery())).header.errno).toBeUndefined();
  });

  it('closes every fd that it does not keep, and those that it keeps with their client', async () => {
    const one = served();
    const first = await RawPeer.agreed(one.path);
    first.close();
    await one.gone(1);
    const before = openFds();
    const peer = await RawPeer.agreed(one.path);
    const eventfd = new Eventfd();
    const memory = calls.memfd('dma', 8192);
    expect((await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery(), [eventfd.fd, memory])).header.errno).toBeUndefined();
    expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 2, data: 'eventfd' }), [eventfd.fd])).header.errno).toBe(22);
    // Twice the same: the first goes.
    for (let times = 0; times < 2; times += 1) expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 1, data: 'eventfd' }), [eventfd.fd])).header.errno).toBeUndefined();
    one.device.driver.raiseMsi();
    expect((await peer.ask('DMA_MAP', encodeDmaMap({ iova: 0n, size: 4096, offset: 4096, read: true, write: true }), [memory])).header.errno).toBeUndefined();
    expect((await peer.ask('DMA_MAP', encodeDmaMap({ iova: 0x1000n, size: 8192, offset: 4096, read: true, write: true }), [memory])).header.errno).toBe(22);
    expect(one.device.driver.dma.write(0n, Uint8Array.of(5))).toBe(true);
    const byte = new Uint8Array(1);
    calls.pread(memory, byte, 4096n);
    expect([byte[0], eventfd.read()]).toEqual([5, 1n]);
    peer.close();
    await one.gone(2);
    expect(one.device.driver.dma.ranges).toEqual([]);
    calls.close(memory);
    eventfd.close();
    expect(openFds()).toBe(before);
  });

  it('logs all that is mapped where a log names no ranges', async () => {
    const one = served();
    const peer = await client(one.path);
    const memory = calls.memfd('dma', 8192);
    for (const iova of [0n, 0x10_0000n]) await peer.ask('DMA_MAP', encodeDmaMap({ iova, size: 4096, offset: 0, read: true, write: true }), [memory]);
    calls.close(memory);
    expect((await peer.ask('DEVICE_FEATURE', encodeLoggingStart({ pageSize: 4096, ranges: [] }))).header.errno).toBeUndefined();
    expect(one.device.driver.dma.log?.ranges).toEqual([{ iova: 0n, size: 4096 }, { iova: 0x10_0000n, size: 4096 }]);
  });

  it.each([
    ['bytes that are no vfio-user', (peer: RawPeer) => peer.raw(new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n'))],
    ['a command before VERSION', (peer: RawPeer) => peer.command('DEVICE_GET_INFO', encodeDeviceInfoQuery())],
    ['another major version', (peer: RawPeer) => peer.command('VERSION', encodeVersion({ ...ownVersion, major: 3 }))],
    ['a reply to nothing', (peer: RawPeer) => peer.raw(encodeMessage({ id: 9, command: 11, kind: 'reply' }))],
    ['a size beyond every bound', (peer: RawPeer) => {
      const bytes = encodeMessage({ id: 1, command: commands.VERSION, kind: 'command' });
      new DataView(bytes.buffer).setUint32(4, maxMessageBytes + 1, true);
      peer.raw(bytes);
    }],
  ])('ends the connection at %s, and serves the next client', async (_, say) => {
    const one = served();
    const peer = RawPeer.connect(one.path);
    say(peer);
    await peer.end();
    await one.gone(1);
    expect(one.events.find(({ kind }) => kind === 'gone')).toMatchObject({ error: { code: 'VFIO_E_NO_DEVICE' } });
    const next = await client(one.path);
    expect((await next.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery())).header.errno).toBeUndefined();
  });

  it('is not kept by an eventfd that is full and would wait, and takes nothing else for one', async () => {
    const peer = await client(served().path);
    const full = calls.binding.eventfd(0, 0);
    calls.writeCount(full, 2n ** 64n - 2n);
    const memory = calls.memfd('none', 4096);
    const set = { index: 1, action: 'trigger', start: 0, count: 1 } as const;
    expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ ...set, data: 'eventfd' }), [memory])).header.errno).toBe(22);
    expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ ...set, data: 'eventfd' }), [full])).header.errno).toBeUndefined();
    expect((await peer.ask('DEVICE_SET_IRQS', encodeUserIrqSet({ ...set, data: 'none' }))).header.errno).toBeUndefined();
    for (const fd of [full, memory]) calls.close(fd);
  });

  it('survives a client that dies in any state', async () => {
    const one = served();
    const steps: readonly ((peer: RawPeer) => unknown)[] = [
      (peer) => peer.raw(encodeMessage({ id: 1, command: commands.VERSION, kind: 'command' }).subarray(0, 7)),
      (peer) => peer.command('VERSION', encodeVersion(ownVersion)),
      async (peer) => {
        await peer.ask('VERSION', encodeVersion(ownVersion));
        peer.command('DEVICE_FEATURE', encodeUserState('set', 'stop-copy'));
      },
      async (peer) => {
        await peer.ask('VERSION', encodeVersion(ownVersion));
        for (let n = 0; n < 500; n += 1) peer.command('REGION_READ', encodeRegionAccess({ region: 2, offset: 0, count: 4000 }));
      },
    ];
    for (const [n, step] of steps.entries()) {
      const peer = RawPeer.connect(one.path);
      await step(peer);
      peer.close();
      await one.gone(n + 1);
      expect(one.device.driver.opens).toBe(0);
    }
    await client(one.path);
  });

  it('answers every one of 2,500 hostile commands, and lives', async () => {
    const one = served();
    const valid: readonly (readonly [number, Uint8Array])[] = [
      [commands.DEVICE_GET_REGION_INFO, encodeRegionInfoQuery({ index: 1, argsz: 80 })],
      [commands.DEVICE_GET_IRQ_INFO, encodeIrqInfoQuery(1)],
      [commands.DEVICE_SET_IRQS, encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 1, data: 'none' })],
      [commands.REGION_READ, encodeRegionAccess({ region: 2, offset: 0, count: 8 })],
      [commands.REGION_WRITE, encodeRegionAccess({ region: 2, offset: 0, count: 2 }, Uint8Array.of(1, 2))],
      [commands.REGION_WRITE_MULTI, encodeWriteMulti([{ region: 2, offset: 0, data: Uint8Array.of(1) }])],
      [commands.DMA_MAP, encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true })],
      [commands.DMA_UNMAP, encodeDmaUnmap({ iova: 0n, size: 4096 })],
      [commands.DEVICE_FEATURE, encodeUserState('set', 'stop')],
      [commands.MIG_DATA_READ, new Uint8Array(8)],
      [commands.DEVICE_RESET, new Uint8Array(0)],
      [commands.VERSION, encodeVersion(ownVersion)],
    ];
    const peer = await client(one.path);
    const before = openFds();
    const command = fc.constantFrom(...valid).chain(([number, payload]) => fc.tuple(fc.oneof({ weight: 9, arbitrary: fc.constant(number) }, { weight: 1, arbitrary: fc.nat(20) }), hostile([payload]), fc.nat(2)));
    const memory = calls.memfd('dma', 4096);
    await fc.assert(fc.asyncProperty(command, async ([number, payload, fds]) => {
      const { header, fds: received } = await peer.ask(number, payload, Array.from({ length: fds }, () => memory));
      for (const fd of received) calls.close(fd);
      expect([header.reply, header.command]).toEqual([true, number]);
    }), { numRuns: 2500 });
    calls.close(memory);
    peer.close();
    await one.gone(1);
    expect(openFds()).toBeLessThanOrEqual(before);
    await client(one.path);
  });

  it('replaces the socket of a server that died, and nothing else', async () => {
    const one = served();
    await expect(new Promise((_, reject) => serveDevice(softwareDevice(), one.path).subscribe({ error: reject }))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    await client(one.path);
    const stale = join(folder, 'stale.sock');
    calls.close(calls.listen(stale, 1));
    const second = serve(stale);
    expect(second.events).toEqual([{ kind: 'listening', path: stale }]);
    second.serving.unsubscribe();
    expect(existsSync(stale)).toBe(false);
    const file = join(folder, 'file');
    writeFileSync(file, 'precious');
    await expect(new Promise((_, reject) => serveDevice(softwareDevice(), file).subscribe({ error: reject }))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    expect(existsSync(file)).toBe(true);
  });

  it('goes on where there are no fds for a client, says so once, and serves that client as soon as there are', async () => {
    const path = join(folder, 'short.sock');
    let failing = 3;
    const binding = { ...calls.binding, accept: (fd: number) => (failing-- > 0 ? -constants.errno.EMFILE : calls.binding.accept(fd)) };
    const warnings: string[] = [];
    const hear = (told: unknown): void => {
      const { device, error } = told as Warning;
      warnings.push(`${device}: ${VfioError.is(error) ? error.code : ''}`);
    };
    subscribe(warningChannel.name, hear);
    const serving = serveAt(path, () => softwareDevice().open(realClock), { calls: new Syscalls(binding) }).subscribe({ error: (error: unknown) => { throw error; } });
    closing.push(() => serving.unsubscribe());
    const peer = await client(path);
    expect((await peer.ask('DEVICE_GET_INFO', encodeDeviceInfoQuery())).header.errno).toBeUndefined();
    unsubscribe(warningChannel.name, hear);
    expect([failing, warnings]).toEqual([-1, [`${path}: VFIO_E_LIMIT`]]);
  });

  it('takes a device for gone that is not released in time, and tells the client and the next one', async () => {
    const path = join(folder, 'stuck.sock');
    const scheduler = new VirtualTimeScheduler();
    const device = softwareDevice();
    const released = new Subject<ReleaseReport>();
    const told: string[] = [];
    const stuck = () => device.open({ ...realClock, scheduler }).pipe(map((port) => altered(port, () => ({ released }))));
    const one = serveAt(path, stuck).subscribe({ next: (event) => told.push(event.kind === 'gone' ? `gone: ${event.error?.code ?? ''}` : event.kind), error: (error: unknown) => { throw error; } });
    closing.push(() => one.unsubscribe());
    const peer = await client(path);
    peer.raw(new Uint8Array(16));
    while (device.driver.opens > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(told).toEqual(['listening', 'connected']);
    scheduler.flush();
    await peer.end();
    expect([told, scheduler.frame]).toEqual([['listening', 'connected', 'gone: VFIO_E_NO_DEVICE'], 15_000]);
  });

  it('makes no more writes of one message than a turn of the loop has time for', async () => {
    const peer = await client(served().path);
    const writes = (count: number) => encodeWriteMulti(Array.from({ length: count }, () => ({ region: 2, offset: 0, data: Uint8Array.of(1) })));
    expect((await peer.ask('REGION_WRITE_MULTI', writes(1025))).header.errno).toBe(22);
    expect((await peer.ask('REGION_WRITE_MULTI', writes(1024))).header.errno).toBeUndefined();
  });

  it('holds a client up whose fds wait behind a command that is not answered', async () => {
    const path = join(folder, 'waiting-fds.sock');
    let answer: ((value: number) => void) | undefined;
    const device = pciDevice({ vendorId: 1, deviceId: 1, classCode: 0, bars: [{ index: 0, kind: 'memory', size: 16 }] }, ({ accesses }) => accesses.pipe(
      tap((access) => { if (access.kind === 'read') answer = access.answer; }),
      ignoreElements(),
    ));
    const one = new Served(path, device);
    closing.push(() => one.serving.unsubscribe());
    const peer = await client(path);
    const memory = calls.memfd('none', 4096);
    const before = openFds();
    peer.command('REGION_READ', encodeRegionAccess({ region: 0, offset: 0, count: 4 }));
    for (let n = 0; n < 20; n += 1) peer.command('DEVICE_GET_INFO', encodeDeviceInfoQuery(), { fds: new Array<number>(16).fill(memory) });
    while (answer === undefined) await new Promise((resolve) => setImmediate(resolve));
    for (let turns = 0; turns < 10; turns += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(openFds()).toBe(before + 64);
    answer(1);
    for (let replies = 0; replies < 21; replies += 1) expect((await peer.next()).header.errno).toBeUndefined();
    expect(openFds()).toBe(before);
    calls.close(memory);
  });

  it('leaves a client whose device is still being opened', async () => {
    const path = join(folder, 'opening.sock');
    let opening = 0;
    const never = new Observable<DevicePort>(() => {
      opening += 1;
      return () => (opening -= 1);
    });
    const serving = serveAt(path, () => never).subscribe({ error: (error: unknown) => { throw error; } });
    const peer = RawPeer.connect(path);
    while (opening === 0) await new Promise((resolve) => setImmediate(resolve));
    serving.unsubscribe();
    await peer.end();
    expect(opening).toBe(0);
  });

  it('does not remove the socket of a server that has taken its path over', () => {
    const path = join(folder, 'taken-over.sock');
    const first = serve(path);
    rmSync(path);
    const second = serve(path);
    first.serving.unsubscribe();
    expect(existsSync(path)).toBe(true);
    second.serving.unsubscribe();
    expect(existsSync(path)).toBe(false);
  });
});
