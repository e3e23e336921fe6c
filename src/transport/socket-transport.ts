import { createConnection, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { nowCall } from '../devices/call.js';
import { SocketConnection } from './socket-connection.js';
import { connectStream, hasOwnSockets, listenStream } from './stream-endpoints.js';
import { tlsError, tlsServer, tlsSocket, type TlsOptions } from './tls.js';
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

/** How a side connects. */
export interface ConnectOptions {
  /** Encrypted, and both sides verified. */
  readonly tls?: TlsOptions;
}

/** Connects to a side that listens. Fails with VFIO_E_LINK where nobody does, VFIO_E_ADDRESS, VFIO_E_UNTRUSTED, VFIO_E_CERTIFICATE. */
export function connectTo(address: string, { tls }: ConnectOptions = {}): Transport {
  return {
    name: address,
    open: (clock) =>
      new Observable<Connection>((subscriber) => {
        const to = parseAddress(address);
        if (tls === undefined && hasOwnSockets(to)) return connectStream({ to, name: address, clock }).subscribe(subscriber);
        const socket = tls === undefined ? createConnection(to) : tlsSocket(to, address, tls);
        let handedOver = false;
        socket.once('error', (error: Error) => subscriber.error(tlsError(address, 'no connection', error)));
        socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
          handedOver = true;
          subscriber.next(new SocketConnection(socket, address, clock));
          subscriber.complete();
        });
        return () => {
          if (!handedOver) socket.destroy();
        };
      }),
  };
}

/** How a side listens. */
export interface ListenOptions extends ConnectOptions {
  /** Told where, once it does: with port 0 the system chose one. */
  readonly listening?: (address: string) => void;
  /** With TLS: told of each side that was turned away, with VFIO_E_UNTRUSTED or VFIO_E_LINK. The listening goes on. */
  readonly refused?: (error: VfioError) => void;
}

/** Listens, takes one connection, and listens no longer. Fails with VFIO_E_LINK where the address is taken, VFIO_E_ADDRESS, VFIO_E_CERTIFICATE. */
export function listenAt(address: string, { tls, listening, refused }: ListenOptions = {}): Transport {
  return {
    name: address,
    open: (clock) =>
      new Observable<Connection>((subscriber) => {
        const to = parseAddress(address);
        if (tls === undefined && hasOwnSockets(to)) return listenStream({ to, name: address, clock }, (where) => listening?.(where)).subscribe(subscriber);
        const take = (accepted: Socket): void => {
          // Whoever is verified after the first one was taken comes too late.
          if (subscriber.closed) {
            accepted.destroy();
            return;
          }
          subscriber.next(new SocketConnection(accepted, address, clock));
          subscriber.complete();
        };
        const server: Server = tls === undefined ? createServer({ pauseOnConnect: true, noDelay: true }, take) : tlsServer(address, tls, take, (error) => refused?.(error));
        server.once('error', (error) => subscriber.error(linkError(address, `cannot listen: ${error.message}`, error)));
        server.listen(to, () => listening?.(listeningAt(server, address)));
        return () => server.close();
      }),
  };
}

function listeningAt(server: Server, address: string): string {
  const bound = server.address();
  if (bound === null || typeof bound === 'string') return address;
  return `tcp://${bound.family === 'IPv6' ? `[${bound.address}]` : bound.address}:${bound.port}`;
}

/** For a caller that has a socket already, TLS for one. */
export function socketTransport(socket: Socket, name: string): Transport {
  return { name, open: (clock) => nowCall(() => new SocketConnection(socket, name, clock)) };
}
