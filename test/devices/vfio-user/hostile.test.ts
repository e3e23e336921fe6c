import fc from 'fast-check';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, VirtualTimeScheduler, type Observable } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock, type Clock } from '../../../src/clock.js';
import { VfioError } from '../../../src/errors.js';
import { serveDevice, softwareDevice } from '../../../src/devices/index.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import type { DataChannel, DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { encodeDmaAccess, encodeDmaMap, encodeDmaUnmap } from '../../../src/devices/vfio-user/messages/dma.js';
import { encodeLoggingStart, encodeMigData, encodeUserState, migrationReply } from '../../../src/devices/vfio-user/messages/feature.js';
import { commands, encodeMessage } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeDeviceInfo, encodeDeviceInfoQuery, encodeIrqInfo, encodeIrqInfoQuery, encodeRegionInfo, encodeRegionInfoQuery } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeRegionAccess, encodeWriteMulti } from '../../../src/devices/vfio-user/messages/region-access.js';
import { encodeUserIrqSet } from '../../../src/devices/vfio-user/messages/set-irqs.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';
import { versionBoundMs } from '../../../src/devices/vfio-user/served-connection.js';
import { hostile, hostileMessages } from '../../support/vfio-user/hostile.js';
import { openFds, RawPeer, RawServer } from '../../support/vfio-user/raw-peer.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-hostile-'));
afterAll(() => rmSync(folder, { recursive: true }));

function rethrow(error: unknown): never {
  throw error;
}

/** Memory that was shared, mapped in this process. */
function sharedMappings(): number {
  return readFileSync('/proc/self/maps', 'latin1').split('\n').filter((line) => line.includes('/memfd:')).length;
}

const remap = { subtype: 'region-remap', page: 0, doorbell: true, noAck: false, regions: 3n, ackTimeoutMs: 500, maxWaits: 1 } as const;
const region = { index: 1, flags: 7, size: 0x4000, fileOffset: 0, areas: [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }], msixMappable: false };

describe('a server that is told anything', () => {
  it(`takes ${hostileMessages} hostile messages, answers what can be answered, and nothing of them is left`, async () => {
    const path = join(folder, 'server.sock');
    const device = softwareDevice({ dmaLogging: 4096, remap: { ackTimeoutMs: 1 } });
    let gone = 0;
    const serving = serveDevice(device, path).subscribe({ next: ({ kind }) => { if (kind === 'gone') gone += 1; }, error: rethrow });
    const valid: readonly (readonly [number, Uint8Array])[] = [
      [commands.DEVICE_GET_INFO, encodeDeviceInfoQuery()],
      [commands.DEVICE_GET_REGION_INFO, encodeRegionInfoQuery({ index: 1, argsz: 256 })],
      [commands.DEVICE_GET_IRQ_INFO, encodeIrqInfoQuery(5, 256)],
      [commands.DEVICE_SET_IRQS, encodeUserIrqSet({ index: 5, action: 'trigger', start: 0, count: 1, data: 'eventfd' })],
      [commands.DEVICE_SET_IRQS, encodeUserIrqSet({ index: 5, action: 'unmask', start: 0, count: 1, data: 'eventfd' })],
      [commands.DEVICE_SET_IRQS, encodeUserIrqSet({ index: 1, action: 'trigger', start: 0, count: 2, data: 'bool', vectors: [true, false] })],
      [commands.REGION_READ, encodeRegionAccess({ region: 2, offset: 0, count: 8 })],
      [commands.REGION_WRITE, encodeRegionAccess({ region: 2, offset: 0, count: 2 }, Uint8Array.of(1, 2))],
      [commands.REGION_WRITE_MULTI, encodeWriteMulti([{ region: 2, offset: 0, data: Uint8Array.of(1) }])],
      [commands.DMA_MAP, encodeDmaMap({ iova: 0n, size: 4096, offset: 0, read: true, write: true })],
      [commands.DMA_UNMAP, encodeDmaUnmap({ iova: 0n, size: 4096 })],
      [commands.DEVICE_FEATURE, encodeUserState('set', 'stop-copy')],
      [commands.DEVICE_FEATURE, encodeLoggingStart({ pageSize: 4096, ranges: [] })],
      [commands.MIG_DATA_READ, encodeMigData(100)],
      [commands.MIG_DATA_WRITE, encodeMigData(2, Uint8Array.of(1, 2))],
      [commands.DEVICE_RESET, new Uint8Array(0)],
    ];
    const memory = calls.memfd('hostile', 4096);
    const before = { fds: openFds(), mappings: sharedMappings() };
    let peer = await RawPeer.agreed(path);
    let clients = 1;
    const end = async (): Promise<void> => {
      peer.close();
      while (gone < clients) await new Promise((resolve) => setImmediate(resolve));
    };
    const command = fc.constantFrom(...valid).chain(([number, payload]) => fc.record({ number: fc.constant(number), payload: hostile([payload]), fds: fc.constantFrom<('file' | 'eventfd')[]>([], [], ['file'], ['eventfd'], ['eventfd', 'file']) }));
    // One in a hundred is no message at all: that ends the connection.
    const message = fc.oneof({ weight: 99, arbitrary: command }, { weight: 1, arbitrary: fc.uint8Array({ minLength: 16, maxLength: 64 }) });
    await fc.assert(fc.asyncProperty(message, async (one) => {
      if (one instanceof Uint8Array) {
        // A type that is neither command nor reply, whatever else.
        one[8] = (one[8] ?? 0) | 0xf;
        peer.raw(one);
        await peer.end();
        await end();
        peer = await RawPeer.agreed(path);
        clients += 1;
        return;
      }
      const eventfd = calls.eventfd();
      const { header, fds } = await peer.ask(one.number, one.payload, one.fds.map((kind) => (kind === 'file' ? memory : eventfd)));
      for (const fd of [...fds, eventfd]) calls.close(fd);
      expect([header.reply, header.command]).toEqual([true, one.number]);
    }), { numRuns: hostileMessages });
    await end();
    expect(openFds()).toBeLessThanOrEqual(before.fds);
    expect(sharedMappings()).toBe(before.mappings);
    expect(device.driver).toMatchObject({ opens: 0, irqs: 0, vmas: 0 });
    peer = await RawPeer.agreed(path);
    peer.close();
    calls.close(memory);
    serving.unsubscribe();
  });
});

interface Opened {
  readonly port: DevicePort;
  readonly server: RawPeer;
}

let sockets = 0;

async function opened(clock: Clock = realClock): Promise<Opened> {
  sockets += 1;
  const listener = new RawServer(join(folder, `client${sockets}.sock`));
  const opening = firstValueFrom(openUserPort(listener.path, clock));
  const server = listener.accept();
  listener.close();
  server.reply(await server.next(), encodeVersion(ownVersion));
  return { port: await opening, server };
}

/** Answers every command by what `reply` makes of it, until the connection is over. */
async function answering({ server }: Opened, reply: (command: number) => { readonly payload: Uint8Array; readonly errno?: number; readonly fds?: readonly number[] }): Promise<void> {
  for (;;) {
    let asked;
    try {
      asked = await server.next();
    } catch {
      return;
    }
    for (const fd of asked.fds) calls.close(fd);
    const { payload, errno, fds } = reply(asked.header.command);
    server.raw(encodeMessage({ id: asked.header.id, command: asked.header.command, kind: 'reply', ...(errno === undefined ? {} : { errno }) }, payload), fds);
  }
}

const valid: Readonly<Record<number, Uint8Array>> = {
  [commands.DEVICE_GET_INFO]: encodeDeviceInfo({ flags: 3, regions: 9, irqs: 6 }),
  [commands.DEVICE_GET_REGION_INFO]: encodeRegionInfo(region, 4096),
  [commands.DEVICE_GET_IRQ_INFO]: encodeIrqInfo({ index: 5, flags: 3, count: 1, remap }, 4096),
  [commands.REGION_READ]: encodeRegionAccess({ region: 1, offset: 8, count: 4 }, new Uint8Array(4)),
  [commands.REGION_WRITE]: encodeRegionAccess({ region: 1, offset: 8, count: 4 }),
  [commands.DMA_UNMAP]: encodeDmaUnmap({ iova: 0n, size: 4096 }),
  [commands.DEVICE_FEATURE]: migrationReply(7),
  [commands.MIG_DATA_READ]: encodeMigData(4, new Uint8Array(4)),
};

describe('a client that is answered anything', () => {
  it(`takes ${hostileMessages} hostile messages, each call has its end, and nothing of them is left`, async () => {
    const file = calls.memfd('hostile', 0x4000);
    const before = { fds: openFds(), mappings: sharedMappings() };
    let one = await opened();
    let messages = 0;
    let next: { readonly payload: Uint8Array; readonly errno?: number; readonly fds?: readonly number[] } = { payload: new Uint8Array(0) };
    const serve = (): void => {
      void answering(one, () => {
        messages += 1;
        return next;
      });
    };
    serve();
    const acts: Readonly<Record<string, (port: DevicePort) => Observable<unknown>>> = {
      info: (port) => port.info(), region: (port) => port.regionInfo(1), irqInfo: (port) => port.irqInfo(5), irq: (port) => port.irq({ index: 5 }, { ackFd: true }), map: (port) => port.map(1, { offset: 0, size: 0x1000 }),
      read: (port) => port.access({ region: 1, offset: 8, readBytes: 4 }), write: (port) => port.access({ region: 1, offset: 8, write: new Uint8Array(4) }), migration: (port) => port.migration(),
      getState: (port) => port.getState(), setState: (port) => port.setState('stop'), reset: (port) => port.reset(), log: (port) => port.dmaLogging.start({ ranges: [{ iova: 0n, size: 4096 }], pageSize: 4096 }),
    };
    const answers = fc.oneof({ weight: 3, arbitrary: hostile(Object.values(valid)) }, { weight: 1, arbitrary: hostile([encodeUserState('get', 'stop')]) });
    const step = fc.record({ act: fc.constantFrom(...Object.keys(acts)), payload: answers, errno: fc.option(fc.nat(200), { freq: 8, nil: undefined }), fds: fc.nat({ max: 2 }), asks: fc.option(hostile([encodeDmaAccess({ iova: 0n, size: 4 })]), { freq: 8, nil: undefined }) });
    await fc.assert(fc.asyncProperty(step, async ({ act, payload, errno, fds, asks }) => {
      next = { payload: errno === undefined ? payload : new Uint8Array(0), fds: Array.from({ length: fds }, () => file), ...(errno === undefined ? {} : { errno }) };
      if (asks !== undefined) {
        messages += 1;
        // It is told what it asked for in vain, and goes on; that reply is no command, so nobody answers it.
        one.server.command(11, asks, { noReply: true });
      }
      try {
        await firstValueFrom(acts[act]?.(one.port) ?? one.port.info());
      } catch (error) {
        if (!VfioError.is(error)) throw error;
        if (error.code !== 'VFIO_E_NO_DEVICE' || error.errno !== undefined) return;
        await one.port[Symbol.asyncDispose]();
        one.server.close();
        one = await opened();
        serve();
      }
    }), { numRuns: hostileMessages });
    expect(messages).toBeGreaterThanOrEqual(hostileMessages);
    next = { payload: new Uint8Array(0) };
    one.port.close();
    one.server.close();
    await one.port[Symbol.asyncDispose]();
    expect(openFds()).toBeLessThanOrEqual(before.fds);
    expect(sharedMappings()).toBe(before.mappings);
    calls.close(file);
  });

  const states: readonly (readonly [string, (one: Opened) => Promise<unknown>])[] = [
    ['when a call is outstanding', async ({ port, server }) => {
      const info = firstValueFrom(port.info());
      await server.next();
      server.close();
      return info;
    }],
    ['in the middle of a header', async ({ port, server }) => {
      const info = firstValueFrom(port.info());
      const { header } = await server.next();
      server.raw(encodeMessage({ id: header.id, command: header.command, kind: 'reply' }).subarray(0, 9));
      server.close();
      return info;
    }],
    ['in the middle of a payload', async ({ port, server }) => {
      const info = firstValueFrom(port.info());
      const { header } = await server.next();
      server.raw(encodeMessage({ id: header.id, command: header.command, kind: 'reply' }, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 })).subarray(0, 25));
      server.close();
      return info;
    }],
    ['while it writes device_state', async ({ port, server }) => {
      const written = firstValueFrom(port.setState('stop-copy'));
      server.reply(await server.next(), migrationReply(7));
      server.reply(await server.next(), encodeUserState('get', 'running'));
      await server.next();
      server.close();
      return written;
    }],
    ['while state is read', async ({ port, server }) => {
      const written = firstValueFrom(port.setState('stop-copy'));
      server.reply(await server.next(), migrationReply(7));
      server.reply(await server.next(), encodeUserState('get', 'running'));
      server.reply(await server.next(), encodeUserState('set', 'stop-copy'));
      const { data } = await written;
      const read = firstValueFrom((data as DataChannel).read(100));
      await server.next();
      server.close();
      return read;
    }],
    ['while an irq is registered', async ({ port, server }) => {
      const irq = firstValueFrom(port.irq({ index: 5 }, { ackFd: true }));
      server.reply(await server.next(), valid[commands.DEVICE_GET_IRQ_INFO]);
      server.reply(await server.next(), valid[commands.DEVICE_GET_INFO]);
      for (const fd of (await server.next()).fds) calls.close(fd);
      server.close();
      return irq;
    }],
    ['while memory is mapped for its DMA', async ({ port, server }) => {
      const source = await firstValueFrom(port.allocateDma(4096));
      const mapped = firstValueFrom(port.dmaMap({ iova: 0n, size: 4096, source, read: true, write: true }));
      for (const fd of (await server.next()).fds) calls.close(fd);
      server.close();
      return mapped;
    }],
  ];

  it.each(states)('is told by VFIO_E_NO_DEVICE that its server died %s, and holds nothing when it is closed', async (_, die) => {
    const before = openFds();
    const one = await opened();
    await expect(die(one)).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    await one.port[Symbol.asyncDispose]();
    one.server.close();
    expect(openFds()).toBeLessThanOrEqual(before);
  });

  it('leaves a server that does not answer when it is closed, after ten seconds', async () => {
    const scheduler = new VirtualTimeScheduler();
    const { port, server } = await opened({ ...realClock, virtual: false, scheduler });
    const outstanding = firstValueFrom(port.info()).catch((error: unknown) => (error as VfioError).code);
    const told: string[] = [];
    port.released.subscribe({ next: ({ what, error }) => told.push(VfioError.is(error) ? `${what}: ${error.code}` : what), error: rethrow });
    port.close();
    expect(told).toEqual([]);
    scheduler.flush();
    expect([await outstanding, told, scheduler.frame]).toEqual(['VFIO_E_CANCELED', ['server stuck: VFIO_E_DEADLINE', 'connection closed'], 10_000]);
    server.close();
  });
});

describe('a client that says nothing', () => {
  it('is left after ten seconds, and the next one has its turn', async () => {
    const scheduler = new VirtualTimeScheduler();
    const device = softwareDevice();
    const told: string[] = [];
    const path = join(folder, 'silent.sock');
    const serving = serveDevice({ open: () => device.open({ ...realClock, scheduler }) }, path).subscribe({ next: (event) => told.push('error' in event ? `${event.kind}: ${event.error.code}` : event.kind), error: rethrow });
    const silent = RawPeer.connect(path);
    const waiting = RawPeer.connect(path);
    const agreed = waiting.ask('VERSION', encodeVersion(ownVersion));
    while (!told.includes('connected')) await new Promise((resolve) => setImmediate(resolve));
    scheduler.maxFrames = versionBoundMs;
    scheduler.flush();
    await silent.end();
    await agreed;
    expect(told).toEqual(['listening', 'connected', 'gone: VFIO_E_DEADLINE', 'connected']);
    waiting.close();
    serving.unsubscribe();
  });
});
