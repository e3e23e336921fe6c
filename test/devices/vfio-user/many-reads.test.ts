import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import type { DataChannel, DevicePort } from '../../../src/devices/port.js';
import { encodeMigData, encodeUserState, migrationReply } from '../../../src/devices/vfio-user/messages/feature.js';
import { commands, encodeMessage, type Message } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeRegionInfo } from '../../../src/devices/vfio-user/messages/infos.js';
import { encodeRegionAccess, readRegionPart } from '../../../src/devices/vfio-user/messages/region-access.js';
import { encodeVersion, ownVersion } from '../../../src/devices/vfio-user/messages/version.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { openFds, RawServer, type RawPeer } from '../../support/vfio-user/raw-peer.js';

const { binding } = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-many-'));
afterAll(() => rmSync(folder, { recursive: true }));

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

const layout = { index: 1, flags: 3, size: 0x4000, fileOffset: 0, areas: [], msixMappable: false };

interface Opened {
  readonly port: DevicePort;
  readonly server: RawPeer;
  /** Bytes of each send of the client. */
  readonly sends: number[];
  /** When the client has read so many bytes more. */
  readonly hasRead: (bytes: number) => Promise<void>;
}

/** A client that knows its region, and what it sends. */
async function opened(): Promise<Opened> {
  const sends: number[] = [];
  let received = 0;
  const calls = new Syscalls({
    ...binding,
    transmit: (fd, address, length) => {
      sends.push(length);
      return binding.transmit(fd, address, length);
    },
    receive: (fd, address, length) => {
      const count = binding.receive(fd, address, length);
      received += Math.max(0, count);
      return count;
    },
  });
  const listener = new RawServer(join(folder, 'many.sock'));
  const opening = firstValueFrom(openUserPort(listener.path, realClock, { calls }));
  const server = listener.accept();
  closing.push(() => server.close());
  listener.close();
  rmSync(listener.path);
  server.reply(await server.next(), encodeVersion(ownVersion));
  const port = await opening;
  closing.push(() => port.close());
  const info = firstValueFrom(port.regionInfo(1));
  server.reply(await server.next(), encodeRegionInfo(layout, 4096));
  await info;
  sends.length = 0;
  return {
    port, server, sends,
    async hasRead(bytes) {
      for (const until = received + bytes; received < until; ) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

async function asked(server: RawPeer, count: number): Promise<readonly Message[]> {
  const all: Message[] = [];
  for (let n = 0; n < count; n += 1) all.push(await server.next());
  return all;
}

/** Each word of the region says where it stands. */
function answerTo({ header, payload }: Message): Uint8Array {
  const part = readRegionPart(payload);
  return encodeMessage({ id: header.id, command: header.command, kind: 'reply' }, encodeRegionAccess(part, new Uint8Array(Uint32Array.of(part.offset).buffer)));
}

function wordOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

const reading = (offset: number): { readonly region: number; readonly offset: number; readonly readBytes: number } => ({ region: 1, offset, readBytes: 4 });

describe('many reads of a vfio-user client', () => {
  it('go with one send where they are asked while replies are handed out, in their order', async () => {
    const { port, server, sends } = await opened();
    const got: number[] = [];
    let all: () => void = () => undefined;
    const done = new Promise<void>((resolve) => (all = resolve));
    const read = (offset: number): void => {
      port.access(reading(offset)).subscribe({
        next: (bytes) => {
          got.push(wordOf(bytes));
          if (offset < 128) read(offset + 128);
          if (got.length === 64) all();
        },
        error: () => expect.unreachable(),
      });
    };
    for (let n = 0; n < 32; n += 1) read(4 * n);
    // Each by itself: nothing that is asked elsewhere waits.
    expect(sends.splice(0)).toEqual(Array.from({ length: 32 }, () => 32));
    server.raw(Buffer.concat((await asked(server, 32)).map(answerTo)));
    const second = await asked(server, 32);
    expect(sends).toEqual([32 * 32]);
    expect(second.map(({ payload }) => readRegionPart(payload).offset)).toEqual(Array.from({ length: 32 }, (_, n) => 128 + 4 * n));
    server.raw(Buffer.concat(second.map(answerTo).reverse()));
    await done;
    expect(got).toEqual([...Array.from({ length: 32 }, (_, n) => 4 * n), ...Array.from({ length: 32 }, (_, n) => 252 - 4 * n)]);
  });

  it('have their replies wherever these are cut', async () => {
    const { port, server, hasRead } = await opened();
    for (let cut = 1; cut < 3 * 36; cut += 1) {
      const reads = [0, 4, 8].map((offset) => firstValueFrom(port.access(reading(offset))));
      const replies = Buffer.concat((await asked(server, 3)).map(answerTo));
      const first = hasRead(cut);
      server.raw(replies.subarray(0, cut));
      await first;
      server.raw(replies.subarray(cut));
      expect((await Promise.all(reads)).map(wordOf)).toEqual([0, 4, 8]);
    }
  });

  it('and a query whose reply brings a fd each have their own, and what nobody asked for is closed', async () => {
    const { port, server } = await opened();
    const eventfd = new Eventfd();
    const before = openFds();
    const reads = [0, 4].map((offset) => firstValueFrom(port.access(reading(offset))));
    const info = firstValueFrom(port.regionInfo(1));
    const more = firstValueFrom(port.access(reading(8)));
    const [first, second, query, third] = (await asked(server, 4)) as [Message, Message, Message, Message];
    server.raw(answerTo(first), [eventfd.fd]);
    server.raw(answerTo(second), [eventfd.fd, eventfd.fd]);
    server.reply(query, encodeRegionInfo({ ...layout, flags: 7 }, 4096), [eventfd.fd]);
    server.raw(answerTo(third), [eventfd.fd]);
    expect((await Promise.all([...reads, more])).map(wordOf)).toEqual([0, 4, 8]);
    expect(await info).toMatchObject({ mmappable: true });
    // That of the region is kept.
    expect(openFds()).toBe(before + 1);
    eventfd.close();
  });
});

describe('state that a vfio-user client reads into memory of its reader', () => {
  async function saving({ port, server }: Opened): Promise<DataChannel> {
    const written = firstValueFrom(port.setState('stop-copy'));
    for (const reply of [migrationReply(7), encodeUserState('get', 'running'), encodeUserState('set', 'stop-copy')]) server.reply(await server.next(), reply);
    return (await written).data as DataChannel;
  }

  it('comes there, and not into other memory, also beside other replies', async () => {
    const one = await opened();
    const data = await saving(one);
    const into = new Uint8Array(1 << 20);
    const state = Uint8Array.from({ length: 700_000 }, (_, n) => n % 251);
    const chunk = firstValueFrom(data.read(into.length, into));
    const word = firstValueFrom(one.port.access(reading(8)));
    const [read, access] = (await asked(one.server, 2)) as [Message, Message];
    one.server.raw(Buffer.concat([answerTo(access), encodeMessage({ id: read.header.id, command: commands.MIG_DATA_READ, kind: 'reply' }, encodeMigData(state.length, state))]));
    expect(wordOf(await word)).toBe(8);
    const got = await chunk;
    expect(got.kind === 'bytes' && got.bytes.buffer === into.buffer && Buffer.compare(got.bytes, state)).toBe(0);
    // Memory that is too small is not used.
    const small = new Uint8Array(4);
    const second = firstValueFrom(data.read(8, small));
    one.server.reply(await one.server.next(), encodeMigData(8, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)));
    expect([await second, small]).toEqual([{ kind: 'bytes', bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }, new Uint8Array(4)]);
  });

  it('does not come there any more when nobody waits for it, in the middle of it either', async () => {
    const one = await opened();
    const data = await saving(one);
    const into = new Uint8Array(100_000);
    const state = new Uint8Array(100_000).fill(7);
    for (const begun of [0, 50_000]) {
      const subscription = data.read(into.length, into).subscribe({ error: () => expect.unreachable() });
      const read = await one.server.next();
      const reply = encodeMessage({ id: read.header.id, command: commands.MIG_DATA_READ, kind: 'reply' }, encodeMigData(state.length, state));
      const first = one.hasRead(begun);
      one.server.raw(reply.subarray(0, begun));
      await first;
      subscription.unsubscribe();
      into.fill(0);
      one.server.raw(reply.subarray(begun));
      const word = firstValueFrom(one.port.access(reading(8)));
      one.server.raw(answerTo(await one.server.next()));
      await word;
      expect(into.every((byte) => byte === 0)).toBe(true);
    }
  });
});
