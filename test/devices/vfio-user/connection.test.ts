import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { VfioError } from '../../../src/errors.js';
import { sharedReactor } from '../../../src/devices/linux/reactor.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { UserConnection, type CommandServer } from '../../../src/devices/vfio-user/connection.js';
import { commands, encodeMessage } from '../../../src/devices/vfio-user/messages/header.js';
import { RawPeer } from '../../support/vfio-user/raw-peer.js';

const calls = linuxSyscalls();
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-connection-'));
afterAll(() => rmSync(folder, { recursive: true }));

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

/** A connection, and the peer at its other end. */
function pair(server: Partial<CommandServer> = {}): { readonly connection: UserConnection; readonly peer: RawPeer; readonly lost: Promise<VfioError | undefined> } {
  const path = join(folder, 'pair.sock');
  const listener = calls.listen(path, 1);
  const peer = RawPeer.connect(path);
  const fd = calls.accept(listener) ?? -1;
  calls.close(listener);
  rmSync(path);
  let tell: (error: VfioError | undefined) => void = () => undefined;
  const lost = new Promise<VfioError | undefined>((resolve) => (tell = resolve));
  const connection: UserConnection = new UserConnection(fd, { calls, reactor: sharedReactor(), name: 'peer' }, {
    command: (_name, _payload, fds) => connection.closeFds(fds),
    lost: (error) => tell(error),
    ...server,
  });
  closing.push(() => peer.close(), () => connection.close(new VfioError('VFIO_E_CLOSED', 'done', { operation: 'test' })));
  return { connection, peer, lost };
}

describe('a connection', () => {
  it('that is held up reads on while it waits for a reply: that stands behind what was sent before', async () => {
    const seen: number[] = [];
    const { connection, peer } = pair({
      command: (_name, payload) => {
        seen.push(payload.length);
        connection.pause();
      },
    });
    const asked = firstValueFrom(connection.request('DMA_READ', 'DMA_READ', new Uint8Array(16)));
    const question = await peer.next();
    for (let n = 1; n <= 3; n += 1) peer.command('REGION_WRITE', new Uint8Array(n), { noReply: true });
    peer.reply(question, new Uint8Array(16));
    peer.command('REGION_WRITE', new Uint8Array(4), { noReply: true });
    await asked;
    expect(seen).toEqual([1, 2, 3]);
    connection.resume();
    const another = firstValueFrom(connection.request('DMA_READ', 'DMA_READ', new Uint8Array(16)));
    peer.reply(await peer.next());
    await another;
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  it('answers with the fds that it was given, which stay its own', async () => {
    const file = calls.memfd('answer', 4096);
    const { peer } = pair({ command: (_name, _payload, _fds, answer) => answer(Uint8Array.of(1), [file]) });
    const { payload, fds } = await peer.ask('DEVICE_GET_REGION_INFO');
    expect([[...payload], fds.length]).toEqual([[1], 1]);
    calls.pwrite(file, Uint8Array.of(5), 0n);
    const byte = new Uint8Array(1);
    calls.pread(fds[0] ?? -1, byte, 0n);
    expect(byte[0]).toBe(5);
    for (const fd of [file, ...fds]) calls.close(fd);
  });

  it.each([['an answer to what wanted none', 10], ['an answer to nothing', 11]] as const)('ends at %s', async (_, id) => {
    const { peer, lost } = pair();
    peer.raw(encodeMessage({ id, command: commands.REGION_WRITE, kind: 'reply' }));
    expect(await lost).toEqual(expect.objectContaining({ code: 'VFIO_E_NO_DEVICE', cause: expect.objectContaining({ code: 'VFIO_E_PROTOCOL' }) as unknown }));
  });

  it('says of what was outstanding whether this side closed it or the other', async () => {
    const [ours, theirs] = [pair(), pair()];
    const code = (connection: UserConnection) => firstValueFrom(connection.request('DEVICE_GET_INFO', 'info')).catch((error: unknown) => (error as VfioError).code);
    const [first, second] = [code(ours.connection), code(theirs.connection)];
    ours.connection.end();
    ours.peer.close();
    theirs.peer.close();
    expect([await first, await second]).toEqual(['VFIO_E_CANCELED', 'VFIO_E_NO_DEVICE']);
  });
});
