import { createConnection, createServer, type AddressInfo, type TcpNetConnectOpts, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, Subject } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import type { VfioError } from '../../src/errors.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import { receive } from '../../src/migration/receive.js';
import { connectTo, listenAt } from '../../src/transport/socket-transport.js';
import type { TlsOptions } from '../../src/transport/tls.js';
import type { Connection } from '../../src/transport/transport.js';
import { identity, type Identity } from './certificates.js';
import { everything } from './pulled.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-tls-'));
afterAll(() => rmSync(folder, { recursive: true }));

const authority = identity({ name: 'the authority' });
const server = identity({ name: 'server.example', by: authority, loopback: true });
const client = identity({ name: 'client.example', by: authority });
const stranger = identity({ name: 'a stranger', loopback: true });

const shows = ({ certificate, key }: Identity, more: Partial<TlsOptions> = {}): TlsOptions => ({ certificate, key, authorities: authority.certificate, ...more });

/** A side that listens: where, whom it turns away, and whom it takes. */
function listening(tls: TlsOptions = shows(server), address = 'tcp://127.0.0.1:0') {
  const where = new Subject<string>();
  const refused = new Subject<VfioError>();
  const found = firstValueFrom(where);
  const connection = firstValueFrom(listenAt(address, { tls, listening: (at) => where.next(at), refused: (error) => refused.next(error) }).open(realClock));
  return { found, connection, nextRefused: () => firstValueFrom(refused) };
}

const connect = (address: string, tls: TlsOptions): Promise<Connection> => firstValueFrom(connectTo(address, { tls }).open(realClock));

/** Both ends, and bytes from one to the other. */
async function carries(side: ReturnType<typeof listening>, tls: TlsOptions): Promise<void> {
  const a = await connect(await side.found, tls);
  const b = await side.connection;
  const all = everything(b);
  await lastValueFrom(a.write([Buffer.from('state'), new Uint8Array(3 << 20)]));
  a.close();
  const bytes = await all;
  expect([bytes.subarray(0, 5).toString(), bytes.length]).toEqual(['state', (3 << 20) + 5]);
  b.close();
}

describe('a connection over TLS', () => {
  it('carries bytes where both sides have a certificate of an authority that the other one believes', () => carries(listening(), shows(client)));

  it('carries them over a UNIX socket, where the side that listens has a name or a fingerprint to be known by', async () => {
    await carries(listening(shows(server), `unix:${join(folder, 'named')}`), shows(client, { serverName: 'server.example' }));
    await carries(listening(shows(server), `unix:${join(folder, 'pinned')}`), shows(client, { fingerprint: server.fingerprint }));
    await expect(connect(`unix:${join(folder, 'neither')}`, shows(client))).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });

  it('believes a fingerprint in place of a name, written in either way', async () => {
    const nameless = identity({ name: 'elsewhere.example', by: authority });
    const colons = nameless.fingerprint.toUpperCase().replace(/..(?!$)/g, '$&:');
    await carries(listening(shows(nameless, { fingerprint: client.fingerprint })), shows(client, { fingerprint: colons }));
  });
});

describe('the side that connects refuses', () => {
  it.each([
    ['a certificate of another authority', stranger, {}, /SELF_SIGNED|UNABLE_TO/],
    ['a certificate that has expired', identity({ name: 'old', by: authority, expired: true, loopback: true }), {}, /CERT_HAS_EXPIRED/],
    ['a certificate for another name', identity({ name: 'elsewhere.example', by: authority }), {}, /ALTNAME/],
    ['a certificate for another name than was asked for', server, { serverName: 'other.example' }, /ALTNAME/],
    ['another fingerprint, whatever the name', server, { fingerprint: client.fingerprint }, /FINGERPRINT/],
  ])('%s', async (_what, listener, more, word) => {
    const side = listening(shows(listener));
    const refused = connect(await side.found, shows(client, more));
    await expect(refused).rejects.toMatchObject({ code: 'VFIO_E_UNTRUSTED', message: expect.stringMatching(word) as string });
  });

  it('a side that speaks no TLS', async () => {
    const plain = createServer((socket) => socket.end('what is this?'));
    await new Promise<void>((done) => plain.listen(0, '127.0.0.1', done));
    const { port } = plain.address() as AddressInfo;
    await expect(connect(`tcp://127.0.0.1:${port}`, shows(client))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    plain.close();
  });
});

/** Connects without this library. */
function bare(address: string, with_: (to: TcpNetConnectOpts) => Socket): Socket {
  const { hostname, port } = new URL(address);
  return with_({ host: hostname, port: Number(port) }).on('error', () => undefined);
}

describe('the side that listens turns away, tells of it, and goes on listening,', () => {
  const bad = ({ certificate: cert, key }: Partial<Identity>) => (to: TcpNetConnectOpts) => connectTls({ ...to, ca: authority.certificate, rejectUnauthorized: false, ...(cert === undefined ? {} : { cert, key }) });
  const expired = identity({ name: 'old', by: authority, expired: true });

  it.each([
    ['no certificate', bad({}), 'VFIO_E_UNTRUSTED', /CERTIFICATE/],
    ['a certificate of another authority', bad(stranger), 'VFIO_E_UNTRUSTED', /SELF_SIGNED|UNABLE_TO/],
    ['a certificate that has expired', bad(expired), 'VFIO_E_UNTRUSTED', /CERT_HAS_EXPIRED/],
    ['a plain connection', (to: TcpNetConnectOpts) => createConnection(to).end('GET / HTTP/1.1'), 'VFIO_E_LINK', /./],
    ['one that ends in the handshake', (to: TcpNetConnectOpts) => createConnection(to).end(Buffer.of(22, 3, 1, 2)), 'VFIO_E_LINK', /./],
  ])('%s', async (_what, come, code, word) => {
    const side = listening();
    const refusal = side.nextRefused();
    const address = await side.found;
    const socket = bare(address, come);
    expect(await refusal).toMatchObject({ code, message: expect.stringMatching(word) as string });
    socket.destroy();
    await carries(side, shows(client));
  });

  it('a fingerprint that is not the one it was told', async () => {
    const side = listening(shows(server, { fingerprint: client.fingerprint }));
    const refusal = side.nextRefused();
    const other = await connect(await side.found, shows(identity({ name: 'another', by: authority })));
    expect(await refusal).toMatchObject({ code: 'VFIO_E_UNTRUSTED', message: expect.stringMatching(/FINGERPRINT/) as string });
    expect(await everything(other)).toHaveLength(0);
    await carries(side, shows(client));
  });
});

describe('over TLS', () => {
  it('a connection that is cut fails where it is read and where it is written', async () => {
    const side = listening();
    const cutter = createServer();
    await new Promise<void>((done) => cutter.listen(0, '127.0.0.1', done));
    const between = new Promise<readonly Socket[]>((cut) => {
      cutter.once('connection', (near) => {
        void side.found.then((address) => {
          const far = bare(address, (to) => createConnection(to));
          near.pipe(far).pipe(near);
          cut([near.on('error', () => undefined), far]);
        });
      });
    });
    const a = await connect(`tcp://127.0.0.1:${(cutter.address() as AddressInfo).port}`, shows(client));
    const b = await side.connection;
    await lastValueFrom(a.write([Buffer.from('half')]));
    const got = firstValueFrom(b.read());
    expect(Buffer.from((await got) ?? []).toString()).toBe('half');
    for (const socket of await between) socket.resetAndDestroy();
    await expect(everything(a)).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    await expect(everything(b)).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    await expect(lastValueFrom(a.write([Buffer.from('more')]))).rejects.toMatchObject({ code: 'VFIO_E_LINK' });
    cutter.close();
  });

  it.each([
    ['no PEM', { certificate: 'nothing' }],
    ['the key of another certificate', { key: client.key }],
    ['no authority', { authorities: [] }],
    ['an authority without contents', { authorities: '' }],
    ['an authority that is none', { authorities: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }],
  ])('%s at this side is an error before anybody is asked', async (_what, change) => {
    const tls = shows(server, change);
    await expect(connect('tcp://127.0.0.1:1', tls)).rejects.toMatchObject({ code: 'VFIO_E_CERTIFICATE' });
    await expect(listening(tls).connection).rejects.toMatchObject({ code: 'VFIO_E_CERTIFICATE' });
  });
});

describe('a migration over TLS', () => {
  it('moves a device between two sides that have verified each other', async () => {
    const [source, destination] = await Promise.all(['vf0', 'to0'].map((name) => firstValueFrom(openDevice(softwareDevice({ name, remap: false })))));
    if (source === undefined || destination === undefined) throw new Error('no device');
    const where = new Subject<string>();
    const found = firstValueFrom(where);
    const received = lastValueFrom(receive({ devices: [{ name: 'd', destination }], transport: listenAt('tcp://127.0.0.1:0', { tls: shows(server), listening: (at) => where.next(at) }), journal: memoryJournal() }));
    const moved = lastValueFrom(migrate({ devices: [{ source, destination: 'd' }], transport: connectTo(await found, { tls: shows(client) }), journal: memoryJournal() }));
    expect(await Promise.all([moved, received])).toMatchObject([{ phase: 'moved' }, { phase: 'moved' }]);
    expect([source.currentState.state, destination.currentState.state]).toEqual(['stop', 'running']);
    await Promise.all([source.close(), destination.close()]);
  });
});
