import { createServer, type AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { connectWithInbox, withInbox, type Received } from '../../src/transport/inbox.js';

/** Both ends of one connection, each with an inbox. */
async function ends(): Promise<readonly [Received, Received]> {
  const server = createServer({ pauseOnConnect: true });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const accepted = new Promise<Received>((done) => server.once('connection', (socket) => {
    server.close();
    done(withInbox(socket));
  }));
  const connected = connectWithInbox({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
  return [connected, await accepted];
}

/** What comes next, as text. */
function next({ socket, inbox }: Received): Promise<string> {
  if (inbox === undefined) throw new Error('this Node keeps the handle elsewhere: the sockets of a server are slow');
  return new Promise((done) => {
    const look = (): boolean => {
      const bytes = inbox.take(socket);
      if (bytes !== undefined) done(Buffer.from(bytes).toString());
      return false;
    };
    inbox.arrived = look;
    look();
  });
}

describe('an inbox', () => {
  it('is at both ends, and has one piece at a time: the socket does not read on before it is asked to', async () => {
    const [a, b] = await ends();
    for (const [from, to] of [[a, b], [b, a]] as const) {
      from.socket.write('one');
      expect(await next(to)).toBe('one');
      from.socket.write('two');
      for (let turn = 0; turn < 10; turn += 1) await new Promise(setImmediate);
      from.socket.write('three');
      expect(await next(to)).toMatch(/^two/);
    }
    a.socket.destroy();
    b.socket.destroy();
  });
});
