import { lookup } from 'node:dns';
import { unlinkSync } from 'node:fs';
import type { NetConnectOpts } from 'node:net';
import { catchError, concatMap, Observable, throwError, timeout } from 'rxjs';
import type { Clock } from '../clock.js';
import { EAGAIN, ECONNABORTED, EINPROGRESS, EINTR, errnoName, type Binding } from '../devices/linux/binding.js';
import { koffiBinding } from '../devices/linux/koffi-binding.js';
import { sharedReactor, type ReadySlot } from '../devices/linux/reactor.js';
import { sockets } from '../devices/linux/stream-calls.js';
import { hostAndPort, ipAddress, unixAddress, type SocketAddress } from './socket-address.js';
import { StreamConnection } from './stream-connection.js';
import { linkError, type Connection } from './transport.js';

/**
 * What the kernel may hold of what is on its way to another process, bytes: as much as a message of state, so that one side makes the next while
 * the other reads. It grants what its administrator allows (net.core.wmem_max). For TCP it finds the right size itself, unless it is told one.
 */
const sendBufferBytes = 2 << 20;

/** How long one address of a host may take where there is another one, ms. */
const attemptMs = 250;

/** Where a side connects to or listens, and how it is named. */
export interface Endpoint {
  readonly to: NetConnectOpts;
  readonly name: string;
  readonly clock: Clock;
}

/** Whether this process can have sockets of its own: elsewhere than on Linux, or without koffi, Node's have to do. */
export function hasOwnSockets(to: NetConnectOpts): boolean {
  // The zone of a link-local address is for Node to find.
  if ('host' in to && to.host?.includes('%') === true) return false;
  try {
    koffiBinding();
    return true;
  } catch {
    return false;
  }
}

/** Connects to the first address of the host that answers. Fails with VFIO_E_LINK. */
export function connectStream(endpoint: Endpoint): Observable<Connection> {
  const { name, clock } = endpoint;
  return addressesOf(endpoint).pipe(
    concatMap((addresses) => {
      const from = (n: number): Observable<Connection> => {
        const address = addresses[n];
        if (address === undefined) return throwError(() => linkError(name, 'no connection: the host has no address'));
        if (n === addresses.length - 1) return attempt(address, endpoint);
        return attempt(address, endpoint).pipe(timeout({ first: attemptMs, scheduler: clock.scheduler }), catchError(() => from(n + 1)));
      };
      return from(0);
    }),
  );
}

/** Listens at the first address of the host, and takes one connection. Fails with VFIO_E_LINK. */
export function listenStream(endpoint: Endpoint, listening: (address: string) => void): Observable<Connection> {
  const { to, name } = endpoint;
  return addressesOf(endpoint).pipe(
    concatMap(([address]) => socketAt(address, endpoint, 'cannot listen', (socket) => {
      const { binding, fd, slot, failed } = socket;
      if ('port' in to) binding.setOption(fd, sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1);
      const bound = binding.bindTo(fd, socket.address.bytes);
      const begun = bound < 0 ? bound : binding.listen(fd, 1);
      if (bound === 0 && 'path' in to) socket.unlinks(to.path);
      if (begun < 0) {
        failed('listen', begun);
        return;
      }
      const accept = (): void => {
        const accepted = binding.accept(fd);
        if (accepted === -EAGAIN || accepted === -ECONNABORTED || accepted === -EINTR) slot.arm(accept, 'input');
        else if (accepted < 0) failed('accept', accepted);
        else socket.hands(accepted);
      };
      slot.arm(accept, 'input');
      const found = 'port' in to ? hostAndPort(binding.boundTo(fd)) : undefined;
      listening(found === undefined ? name : `tcp://${found}`);
    })),
  );
}

function attempt(address: SocketAddress, endpoint: Endpoint): Observable<Connection> {
  return socketAt(address, endpoint, 'no connection', ({ binding, fd, slot, failed, hands }) => {
    const over = (failure: number): void => {
      if (failure < 0) failed('connect', failure);
      else hands(fd);
    };
    const begun = binding.connectTo(fd, address.bytes);
    if (begun === -EINPROGRESS) slot.arm(() => over(binding.socketError(fd)), 'output');
    else over(begun);
  });
}

/** A socket on its way to a connection. */
interface OpenSocket {
  readonly binding: Binding;
  readonly address: SocketAddress;
  readonly fd: number;
  readonly slot: ReadySlot;
  /** The socket's own fd or another one becomes the connection. */
  readonly hands: (fd: number) => void;
  readonly failed: (operation: string, failure: number) => void;
  /** Removes this file with the socket. */
  readonly unlinks: (path: string) => void;
}

function socketAt(address: SocketAddress | undefined, { name, clock }: Endpoint, what: string, use: (socket: OpenSocket) => void): Observable<Connection> {
  return new Observable<Connection>((subscriber) => {
    if (address === undefined) throw linkError(name, `${what}: the host has no address`);
    const binding = koffiBinding();
    const reactor = sharedReactor();
    const failed = (operation: string, failure: number): void => subscriber.error(linkError(name, `${what}: ${operation} ${errnoName(failure)} ${address.text}`));
    const fd = binding.streamSocket(address.family);
    if (fd < 0) {
      failed('socket', fd);
      return;
    }
    let given = false;
    subscriber.add(() => {
      if (!given) binding.close(fd);
    });
    const slot = reactor.addReady(fd);
    subscriber.add(() => slot.close());
    const hands = (connected: number): void => {
      if (connected === fd) {
        given = true;
        slot.close();
      }
      if (address.family === sockets.AF_UNIX) binding.setOption(connected, sockets.SOL_SOCKET, sockets.SO_SNDBUF, sendBufferBytes);
      else binding.setOption(connected, sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1);
      try {
        subscriber.next(new StreamConnection(connected, { binding, reactor, clock, name }));
        subscriber.complete();
      } catch (error) {
        subscriber.error(error);
      }
    };
    const unlinks = (path: string): void => subscriber.add(() => {
      try {
        unlinkSync(path);
      } catch {
        // Somebody else has removed it.
      }
    });
    use({ binding, address, fd, slot, hands, failed, unlinks });
  });
}

function addressesOf({ to, name }: Endpoint): Observable<readonly SocketAddress[]> {
  return new Observable<readonly SocketAddress[]>((subscriber) => {
    const found = (addresses: readonly SocketAddress[]): void => {
      subscriber.next(addresses);
      subscriber.complete();
    };
    if ('path' in to) {
      const address = unixAddress(to.path);
      if (address === undefined) throw linkError(name, 'the path is too long for a socket');
      found([address]);
      return;
    }
    const { host = '', port } = to;
    // Answers numeric addresses as well, and in the order in which they are to be tried.
    lookup(host, { all: true }, (error, addresses) => {
      if (error !== null) subscriber.error(linkError(name, `no connection: ${error.message}`, error));
      else found(addresses.map(({ address }) => ipAddress(address, port)));
    });
  });
}
