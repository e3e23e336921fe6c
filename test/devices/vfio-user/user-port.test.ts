import { mkdtempSync, readlinkSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { VfioError } from '../../../src/errors.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { encodeDmaAccess } from '../../../src/devices/vfio-user/messages/dma.js';
import { commands, encodeMessage, type Message } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeDeviceInfo, encodeIrqInfo, encodeRegionInfo } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeRegionAccess } from '../../../src/devices/vfio-user/messages/region-access.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';
import { openFds, RawServer, type RawPeer } from '../../support/vfio-user/raw-peer.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-client-'));
afterAll(() => rmSync(folder, { recursive: true }));

let servers = 0;
const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

function listening(): RawServer {
  servers += 1;
  const server = new RawServer(join(folder, `${servers}.sock`));
  closing.push(() => server.close());
  return server;
}

interface Opened {
  readonly port: DevicePort;
  readonly server: RawPeer;
}

/** A client whose server does what the test says, after a version that both like. */
async function opened(version: Uint8Array = encodeVersion(ownVersion)): Promise<Opened> {
  const listener = listening();
  const opening = firstValueFrom(openUserPort(listener.path, realClock));
  const server = listener.accept();
  closing.push(() => server.close());
  server.reply(await server.next(), version);
  const port = await opening;
  closing.push(() => port.close());
  return { port, server };
}

/** Serves one call. */
async function served<T>(call: Promise<T>, server: RawPeer, reply: (asked: Message) => void): Promise<T> {
  reply(await server.next());
  return call;
}

const region = { index: 1, flags: 7, size: 0x4000, fileOffset: 0, areas: [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }], msixMappable: false };

describe('a vfio-user client', () => {
  it.each([
    ['another major version', () => encodeVersion({ ...ownVersion, major: 1 }), 'VFIO_E_UNSUPPORTED'],
    ['a minor version that nobody proposed', () => encodeVersion({ ...ownVersion, minor: 2 }), 'VFIO_E_PROTOCOL'],
    ['JSON without its NUL', () => encodeVersion(ownVersion).subarray(0, -1), 'VFIO_E_PROTOCOL'],
    ['nothing at all', () => new Uint8Array(0), 'VFIO_E_PROTOCOL'],
  ])('refuses a server with %s, and leaves nothing open', async (_, version, code) => {
    const before = openFds();
    const listener = listening();
    const opening = firstValueFrom(openUserPort(listener.path, realClock));
    const server = listener.accept();
    const failed = expect(opening).rejects.toMatchObject({ code });
    server.reply(await server.next(), version());
    await failed;
    await server.end();
    listener.close();
    closing.length = 0;
    expect(openFds()).toBeLessThanOrEqual(before + 1);
  });

  it('refuses what is no vfio-user, and a server that closes at once', async () => {
    for (const say of [(server: RawPeer) => server.raw(new TextEncoder().encode('HTTP/1.1 400 Bad Request\r\n')), (server: RawPeer) => server.close()]) {
      const listener = listening();
      const opening = firstValueFrom(openUserPort(listener.path, realClock));
      const failed = expect(opening).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
      const server = listener.accept();
      say(server);
      await failed;
      server.close();
    }
  });

  it('takes its hands off a server that says nothing, when nobody waits any more', async () => {
    const listener = listening();
    const opening = openUserPort(listener.path, realClock).subscribe({ error: () => expect.unreachable() });
    const server = listener.accept();
    await server.next();
    opening.unsubscribe();
    await server.end();
  });

  it('says of a path where nobody listens what is wrong with it', async () => {
    const listener = listening();
    listener.close();
    closing.length = 0;
    await expect(firstValueFrom(openUserPort(listener.path, realClock))).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    await expect(firstValueFrom(openUserPort(join(folder, 'none.sock'), realClock))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
    await expect(firstValueFrom(openUserPort(join(folder, 'a'.repeat(200)), realClock))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });

  it('maps an area through the fd that came with its layout, and nothing that the layout does not offer', async () => {
    const { port, server } = await opened();
    const fd = calls.memfd('region', region.size);
    const reply = (asked: Message): void => server.reply(asked, encodeRegionInfo(region, 4096), [fd]);
    const before = openFds();
    const mapping = await served(firstValueFrom(port.map(1, { offset: 0x2000, size: 0x1000 })), server, reply);
    calls.pwrite(fd, Uint8Array.of(9), 0x2003n);
    expect(new Uint8Array(mapping.memory)[3]).toBe(9);
    await expect(served(firstValueFrom(port.map(1, { offset: 0x1000, size: 0x1000 })), server, reply)).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
    await firstValueFrom(port.unmap(mapping));
    calls.pwrite(fd, Uint8Array.of(7), 0x2003n);
    expect(new Uint8Array(mapping.memory)[3]).toBe(0);
    // Each answer brings a fd, and one is kept.
    expect(openFds()).toBe(before + 1);
    const short = calls.memfd('short', 0x2000);
    await expect(served(firstValueFrom(port.map(1, { offset: 0x2000, size: 0x1000 })), server, (asked) => server.reply(asked, encodeRegionInfo(region, 4096), [short]))).rejects.toMatchObject({ code: 'VFIO_E_PROTOCOL' });
    for (const one of [fd, short]) calls.close(one);
  });

  it('asks again where an answer did not fit, and takes a region without a fd for one that cannot be mapped', async () => {
    const { port, server } = await opened();
    const many = { ...region, size: 0x100_0000, areas: Array.from({ length: 100 }, (_, n) => ({ offset: n * 0x2000, size: 0x1000 })) };
    const info = firstValueFrom(port.regionInfo(1));
    for (let times = 0; times < 2; times += 1) {
      const asked = await server.next();
      server.reply(asked, encodeRegionInfo(many, new DataView(asked.payload.buffer, asked.payload.byteOffset).getUint32(0, true)));
    }
    expect(await info).toMatchObject({ mmappable: false, areas: [], size: 0x100_0000 });
  });

  it('closes every fd that it did not ask for', async () => {
    const { port, server } = await opened();
    const eventfd = new Eventfd();
    const before = openFds();
    await served(firstValueFrom(port.info()), server, (asked) => server.reply(asked, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }), [eventfd.fd, eventfd.fd]));
    await expect(served(firstValueFrom(port.regionInfo(1)), server, (asked) => server.reply(asked, encodeRegionInfo(region, 4096), [eventfd.fd, eventfd.fd]))).rejects.toMatchObject({ code: 'VFIO_E_PROTOCOL' });
    await expect(served(firstValueFrom(port.irqInfo(1)), server, (asked) => server.raw(encodeMessage({ id: asked.header.id, command: asked.header.command, kind: 'reply', errno: 5 }), [eventfd.fd]))).rejects.toMatchObject({ errno: 'EIO' });
    const detached = port.info().subscribe({ error: () => undefined });
    const asked = await server.next();
    detached.unsubscribe();
    server.reply(asked, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }), [eventfd.fd]);
    await served(firstValueFrom(port.info()), server, (one) => server.reply(one, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 })));
    expect(openFds()).toBe(before);
    eventfd.close();
  });

  it('serves DMA by message, also while a request is outstanding, and refuses what no range allows', async () => {
    const { port, server } = await opened();
    const memory = await firstValueFrom(port.allocateDma(8192));
    await served(firstValueFrom(port.dmaMap({ iova: 0x1000n, size: 4096, source: memory, offset: 4096, read: true, write: false })), server, (asked) => {
      expect(asked.fds).toHaveLength(1);
      for (const fd of asked.fds) calls.close(fd);
      server.reply(asked);
    });
    new Uint8Array(memory.memory).set([1, 2, 3], 4096);
    const outstanding = firstValueFrom(port.info());
    const info = await server.next();
    const read = await server.ask('DMA_READ', encodeDmaAccess({ iova: 0x1000n, size: 3 }));
    expect([read.header.reply, [...read.payload.subarray(16)]]).toEqual([true, [1, 2, 3]]);
    const errnos: (number | undefined)[] = [];
    for (const [name, payload] of [
      ['DMA_WRITE', encodeDmaAccess({ iova: 0x1000n, size: 1 }, Uint8Array.of(9))],
      ['DMA_READ', encodeDmaAccess({ iova: 0x1fffn, size: 2 })],
      ['DMA_READ', encodeDmaAccess({ iova: 0n, size: 1 })],
      ['DMA_READ', new Uint8Array(3)],
      ['DEVICE_RESET', undefined],
    ] as const) errnos.push((await server.ask(name, payload)).header.errno);
    expect(errnos).toEqual([22, 19, 19, 22, 38]);
    server.reply(info, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }));
    expect(await outstanding).toMatchObject({ regions: 9 });
  });

  it('shows a mapping by the file of its region that is open when the range has its turn', async () => {
    const { port, server } = await opened();
    const [first, second] = [calls.memfd('first', region.size), calls.memfd('second', region.size)];
    const layout = (fd: number) => (asked: Message) => server.reply(asked, encodeRegionInfo(region, 4096), [fd]);
    const mapping = await served(firstValueFrom(port.map(1, { offset: 0x2000, size: 0x1000 })), server, layout(first));
    const memory = await firstValueFrom(port.allocateDma(4096));
    const before = firstValueFrom(port.dmaMap({ iova: 0n, size: 4096, source: memory, read: true, write: true }));
    const waiting = firstValueFrom(port.dmaMap({ iova: 0x1000n, size: 4096, source: mapping, read: true, write: true }));
    const asked = await server.next();
    await served(firstValueFrom(port.regionInfo(1)), server, layout(second));
    // They take the number that has become free.
    const others = Array.from({ length: 8 }, (_, n) => calls.memfd(`other ${n}`, 4096));
    server.reply(asked);
    await before;
    const shown = await server.next();
    expect(shown.fds.map((fd) => readlinkSync(`/proc/self/fd/${fd}`))).toEqual(['/memfd:second (deleted)']);
    expect(new DataView(shown.payload.buffer, shown.payload.byteOffset).getBigUint64(8, true)).toBe(0x2000n);
    server.reply(shown);
    await waiting;
    for (const fd of [first, second, ...others, ...asked.fds, ...shown.fds]) calls.close(fd);
  });

  it('has no range that was refused when nobody waited for it any more', async () => {
    const { port, server } = await opened();
    const memory = await firstValueFrom(port.allocateDma(4096));
    const range = { iova: 0n, size: 4096, source: memory, read: true, write: true };
    port.dmaMap(range).subscribe().unsubscribe();
    const left = await server.next();
    server.refuse(left, constants.errno.ENOSPC);
    // What is answered behind it: the refusal has come.
    await served(firstValueFrom(port.info()), server, (asked) => server.reply(asked, encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 })));
    const again = firstValueFrom(port.dmaMap(range));
    const asked = await Promise.race([server.next(), again.then((): never => expect.unreachable())]);
    server.reply(asked);
    expect(await again).toEqual({ iova: 0n, size: 4096 });
    for (const fd of [...left.fds, ...asked.fds]) calls.close(fd);
  });

  it('splits what is registered by what the server takes with one message', async () => {
    const { port, server } = await opened(encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, maxFds: 1 } }));
    const registering = firstValueFrom(port.irqs(2, [0, 1]));
    const sets: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      const asked = await server.next();
      const reply = { 7: encodeIrqInfo({ index: 2, flags: 9, count: 4 }), 4: encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }) }[asked.header.command];
      if (asked.header.command === commands.DEVICE_SET_IRQS) {
        const view = new DataView(asked.payload.buffer, asked.payload.byteOffset);
        sets.push(`0x${view.getUint32(4, true).toString(16)} ${view.getUint32(12, true)}+${view.getUint32(16, true)}, ${asked.fds.length} fds`);
      }
      if (asked.fds[0] !== undefined) {
        calls.writeCount(asked.fds[0], BigInt(n));
        calls.close(asked.fds[0]);
      }
      server.reply(asked, reply);
    }
    const irqs = await registering;
    expect(sets).toEqual(['0x24 0+2, 0 fds', '0x24 0+1, 1 fds', '0x24 1+1, 1 fds']);
    expect(await Promise.all(irqs.map(async (irq) => (await firstValueFrom(irq.next())).count))).toEqual([3n, 4n]);
  });

  it('sends no more fds with one message than the kernel takes, whatever the server says', async () => {
    const { port, server } = await opened(encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, maxFds: 1024 } }));
    const registering = firstValueFrom(port.irqs(2, Array.from({ length: 300 }, (_, n) => n)));
    server.reply(await server.next(), encodeIrqInfo({ index: 2, flags: 1, count: 2048 }));
    server.reply(await server.next(), encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }));
    server.reply(await server.next());
    // More fds than any message of this library may bring: they are not read here.
    await server.end();
    await expect(registering).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE', errno: undefined });
  });

  it.each([0, 1, 2, 3, 4, 5])('takes an irq away that nobody waits for any more after %i messages of its registration', async (messages) => {
    const { port, server } = await opened(encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, maxFds: 1 } }));
    const sets: string[] = [];
    const answer = async (): Promise<void> => {
      const asked = await server.next();
      if (asked.header.command === commands.DEVICE_SET_IRQS) sets.push(`${new DataView(asked.payload.buffer, asked.payload.byteOffset).getUint32(16, true)} vectors, ${asked.fds.length} fds`);
      for (const fd of asked.fds) calls.close(fd);
      server.reply(asked, { 7: encodeIrqInfo({ index: 2, flags: 9, count: 4 }), 4: encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }) }[asked.header.command]);
    };
    const before = openFds();
    const registering = port.irqs(2, [0, 1]).subscribe({ error: expect.unreachable });
    for (let n = 0; n < messages; n += 1) await answer();
    registering.unsubscribe();
    for (let n = messages; n < 7; n += 1) await answer();
    expect(sets).toEqual(['2 vectors, 0 fds', '1 vectors, 1 fds', '1 vectors, 1 fds', '1 vectors, 0 fds', '0 vectors, 0 fds']);
    // The answer to the last, and a turn in which it is read.
    const info = firstValueFrom(port.info());
    await answer();
    await info;
    expect(openFds()).toBe(before);
  });

  /** Answers what is asked, until `until` holds for the sets of irqs that were. */
  const answering = async (server: RawPeer, until: (sets: readonly string[]) => boolean): Promise<readonly string[]> => {
    const sets: string[] = [];
    while (!until(sets)) {
      const asked = await server.next();
      if (asked.header.command === commands.DEVICE_SET_IRQS) sets.push(`${new DataView(asked.payload.buffer, asked.payload.byteOffset).getUint32(16, true)} vectors, ${asked.fds.length} fds`);
      for (const fd of asked.fds) calls.close(fd);
      server.reply(asked, { 7: encodeIrqInfo({ index: 2, flags: 9, count: 4 }), 4: encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }) }[asked.header.command]);
    }
    return sets;
  };

  it('takes an irq away that nobody waits for any more, also behind 256 calls that wait', async () => {
    const { port, server } = await opened();
    const registering = port.irqs(2, [0]).subscribe({ error: expect.unreachable });
    for (let n = 0; n < 256; n += 1) port.setIrqs({ index: 2, action: 'trigger', data: 'none', start: 0, count: 1 }).subscribe({ error: expect.unreachable });
    registering.unsubscribe();
    const sets = await answering(server, (told) => told.includes('0 vectors, 0 fds'));
    expect([sets.length, sets[0], sets.at(-1)]).toEqual([258, '1 vectors, 1 fds', '0 vectors, 0 fds']);
  });

  it('takes an irq away also where 256 calls wait for a reply', async () => {
    const { port, server } = await opened();
    const registering = firstValueFrom(port.irqs(2, [0]));
    await answering(server, (told) => told.length === 1);
    const [irq] = await registering;
    const outstanding = Array.from({ length: 256 }, () => firstValueFrom(port.info()));
    const closed = firstValueFrom(irq?.close() ?? port.lowPower(true));
    expect(await answering(server, (told) => told.length === 1)).toEqual(['0 vectors, 0 fds']);
    await Promise.all([closed, ...outstanding]);
  });

  it('that is closed while 256 calls about DMA wait lets go of its server all the same', async () => {
    const before = openFds();
    const { port, server } = await opened();
    const memory = await firstValueFrom(port.allocateDma(4096));
    const failures: unknown[] = [];
    for (let n = 0; n < 257; n += 1) port.dmaMap({ iova: BigInt(n * 4096), size: 4096, source: memory, read: true, write: true }).subscribe({ error: (error: unknown) => failures.push(VfioError.is(error) && error.code) });
    const first = await server.next();
    port.close();
    for (const fd of first.fds) calls.close(fd);
    server.reply(first);
    server.reply(await server.next());
    await server.end();
    await port[Symbol.asyncDispose]();
    expect(failures).toEqual(new Array(256).fill('VFIO_E_CLOSED'));
    closing.splice(0).forEach((close) => close());
    expect(openFds()).toBeLessThanOrEqual(before);
  });

  it.each(['read', 'write'] as const)('makes a %s of as many messages as its server wants, one at a time', async (what) => {
    const { port, server } = await opened(encodeVersion({ ...ownVersion, capabilities: { ...ownVersion.capabilities, maxDataBytes: 1 } }));
    const bytes = 300_000;
    await served(firstValueFrom(port.regionInfo(1)), server, (asked) => server.reply(asked, encodeRegionInfo({ ...region, size: bytes, areas: [] }, 4096)));
    const access = firstValueFrom(port.access({ region: 1, offset: 0, ...(what === 'read' ? { readBytes: bytes } : { write: new Uint8Array(bytes) }) }));
    const failed = expect(access).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    for (let n = 0; n < 3; n += 1) {
      const asked = await server.next();
      server.reply(asked, encodeRegionAccess({ region: 1, offset: n, count: 1 }, what === 'read' ? Uint8Array.of(n) : undefined));
    }
    server.close();
    await failed;
  });

  it('takes a reply that nobody asked for, or that is about something else, for a broken server', async () => {
    for (const id of [77, 1]) {
      const { port, server } = await opened();
      const info = firstValueFrom(port.info());
      const failed = expect(info).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE', cause: { code: 'VFIO_E_PROTOCOL' } });
      const asked = await server.next();
      server.raw(encodeMessage({ id: id === 1 ? asked.header.id : id, command: 9, kind: 'reply' }));
      await failed;
    }
  });

  it('checks what a read brought', async () => {
    const { port, server } = await opened();
    await served(firstValueFrom(port.regionInfo(1)), server, (asked) => server.reply(asked, encodeRegionInfo(region, 4096)));
    const read = (): Promise<Uint8Array> => firstValueFrom(port.access({ region: 1, offset: 4, readBytes: 2 }));
    const bytes = Uint8Array.of(5, 6);
    expect(await served(read(), server, (asked) => server.reply(asked, encodeRegionAccess({ region: 1, offset: 4, count: 2 }, bytes)))).toEqual(bytes);
    for (const lie of [{ region: 2, offset: 4, count: 2 }, { region: 1, offset: 5, count: 2 }]) {
      await expect(served(read(), server, (asked) => server.reply(asked, encodeRegionAccess(lie, bytes)))).rejects.toMatchObject({ code: 'VFIO_E_PROTOCOL' });
    }
    await expect(served(read(), server, (asked) => server.reply(asked, encodeRegionAccess({ region: 1, offset: 4, count: 3 }, bytes)))).rejects.toMatchObject({ code: 'VFIO_E_PROTOCOL' });
    await expect(firstValueFrom(port.access({ region: 1, offset: 0x3fff, readBytes: 2 }))).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
    expect(() => port.accessNow({ region: 1, offset: 0, readBytes: 1 })).toThrow(expect.objectContaining({ code: 'VFIO_E_WOULD_BLOCK' }));
  });

  it('has a bound for what is outstanding', async () => {
    const { port } = await opened();
    const calls = Array.from({ length: 257 }, () => firstValueFrom(port.info()).catch((error: unknown) => (error as { code: string }).code));
    port.close();
    expect(await calls[256]).toBe('VFIO_E_LIMIT');
  });
});
