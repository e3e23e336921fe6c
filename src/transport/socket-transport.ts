import { createConnection, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { nowCall } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import { linkError, type Connection, type Transport } from './transport.js';

/** `tcp://127.0.0.1:4444`, `tcp://[::1]:4444`, `unix:/run/vfio-rx.sock`. Throws VFIO_E_ADDRESS. */
export function parseAddress(address: string): NetConnectOpts {
  if (address.startsWith('unix:') && address.length > 'unix:'.length) return { path: address.slice('unix:'.length) };
  const [, v6, host, port] = /^tcp:\/\/(?:\[([^\]]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(address) ?? [];
  if (port === undefined || Number(port) > 0xffff) {
    throw new VfioError('VFIO_E_ADDRESS', `"${address}" is no address: tcp://HOST:PORT or unix:/PATH`, { operation: 'address' });
  }
  return { host: v6 ?? host ?? '', port: Number(port) };
}

/** Connects to a side that listens. Fails with VFIO_E_LINK where nobody does, VFIO_E_ADDRESS. */
export function connectTo(address: string): Transport {
  return {
    name: address,
    open: () =>
      new Observable<Connection>((subscriber) => {
        const socket = createConnection(parseAddress(address));
        let handedOver = false;
        socket.once('error', (error) => subscriber.error(linkError(address, `no connection: ${error.message}`, error)));
        socket.once('connect', () => {
          handedOver = true;
          subscriber.next(new SocketConnection(socket, address));
          subscriber.complete();
        });
        return () => {
          if (!handedOver) socket.destroy();
        };
      }),
  };
}

/** How a side listens. */
export interface ListenOptions {
  /** Told where, once it does: with port 0 the system chose one. */
  readonly listening?: (address: string) => void;
}

/** Listens, takes one connection, and listens no longer. Fails with VFIO_E_LINK where the address is taken, VFIO_E_ADDRESS. */
export function listenAt(address: string, { listening }: ListenOptions = {}): Transport {
  return {
    name: address,
    open: () =>
      new Observable<Connection>((subscriber) => {
        const server = createServer({ pauseOnConnect: true, noDelay: true });
        server.once('error', (error) => subscriber.error(linkError(address, `cannot listen: ${error.message}`, error)));
        server.once('connection', (socket) => {
          server.close();
          subscriber.next(new SocketConnection(socket, address));
          subscriber.complete();
        });
        server.listen(parseAddress(address), () => listening?.(listeningAt(server, address)));
        return () => server.close();
      }),
  };
}

function listeningAt(server: Server, address: string): string {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') return address;
  return `tcp://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

/** A socket that is never in flowing mode: it holds back the other side when nobody reads. */
class SocketConnection implements Connection {
  readonly name: string;
  readonly #socket: Socket;
  #failed: Error | undefined;

  constructor(socket: Socket, name: string) {
    this.name = name;
    this.#socket = socket;
    socket.setNoDelay(true);
    // Said to whoever reads or writes next; without a listener it would end the process.
    socket.on('error', (error) => (this.#failed ??= error));
  }

  read(): Call<Uint8Array | undefined> {
    return new Observable<Uint8Array | undefined>((subscriber) => {
      const socket = this.#socket;
      const look = (): void => {
        const bytes = socket.read() as Uint8Array | null;
        if (bytes === null && !socket.readableEnded && !socket.destroyed) return;
        if (bytes === null && !socket.readableEnded) {
          subscriber.error(this.#gone());
          return;
        }
        subscriber.next(bytes ?? undefined);
        subscriber.complete();
      };
      const events = ['readable', 'end', 'close'] as const;
      for (const event of events) socket.on(event, look);
      subscriber.add(() => {
        for (const event of events) socket.off(event, look);
      });
      look();
    });
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return new Observable<void>((subscriber) => {
      const socket = this.#socket;
      if (socket.destroyed || socket.writableEnded) {
        subscriber.error(this.#gone());
        return;
      }
      socket.cork();
      const room = parts.map((part) => socket.write(part)).every(Boolean);
      socket.uncork();
      const done = (): void => {
        subscriber.next();
        subscriber.complete();
      };
      if (room) {
        done();
        return;
      }
      const gone = (): void => subscriber.error(this.#gone());
      socket.once('drain', done).once('close', gone);
      subscriber.add(() => socket.off('drain', done).off('close', gone));
    });
  }

  close(): void {
    // What the other side still sends is not wanted; a socket that nobody reads would never see its end.
    this.#socket.end(() => this.#socket.destroy());
    this.#socket.resume();
  }

  #gone(): VfioError {
    return linkError(this.name, `the connection is gone${this.#failed === undefined ? '' : `: ${this.#failed.message}`}`, this.#failed);
  }
}

/** For a caller that has a socket already, TLS for one. */
export function socketTransport(socket: Socket, name: string): Transport {
  return { name, open: () => nowCall(() => new SocketConnection(socket, name)) };
}
