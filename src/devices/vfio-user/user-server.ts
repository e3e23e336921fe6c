import { lstatSync, unlinkSync } from 'node:fs';
import { Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { sharedReactor, type Reactor } from '../linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { ServedConnection } from './served-connection.js';

/** What a server tells. */
export type ServerEvent =
  | { readonly kind: 'listening'; readonly path: string }
  | { readonly kind: 'connected' }
  /** The client has gone and the device is closed. `error`: it broke the protocol, or the device could not be opened for it. */
  | { readonly kind: 'gone'; readonly error?: VfioError };

/** How many clients wait for the one that is served; more are refused. */
const backlog = 16;

/**
 * Listens at a path and serves a device to one client after the other: each gets it freshly opened. Ends when it is unsubscribed; then the device
 * is closed and the socket's file is removed.
 */
export function serveAt(path: string, open: () => Call<DevicePort>, parts: { readonly calls?: Syscalls; readonly reactor?: Reactor } = {}): Observable<ServerEvent> {
  return new Observable<ServerEvent>((subscriber) => {
    const calls = parts.calls ?? linuxSyscalls();
    const reactor = parts.reactor ?? sharedReactor();
    let listener: number;
    try {
      listener = listen(calls, path);
    } catch (error) {
      subscriber.error(error);
      return undefined;
    }
    const slot = reactor.addReady(listener);
    let client: ServedConnection | undefined;
    let closed = false;

    const accept = (): void => {
      if (!closed) slot.arm(accepted, 'input');
    };
    const gone = (error?: unknown): void => {
      client = undefined;
      if (!closed) subscriber.next(VfioError.is(error) ? { kind: 'gone', error } : { kind: 'gone' });
      accept();
    };
    const accepted = (): void => {
      let fd: number | undefined;
      try {
        fd = calls.accept(listener, path);
      } catch (error) {
        close();
        subscriber.error(error);
        return;
      }
      if (fd === undefined) {
        accept();
        return;
      }
      const connected = fd;
      let port: DevicePort | undefined;
      open().subscribe({
        next: (opened) => (port = opened),
        error: (error: unknown) => {
          calls.binding.close(connected);
          gone(error);
        },
        complete: () => {
          if (port === undefined || closed) {
            port?.close();
            calls.binding.close(connected);
            return;
          }
          try {
            client = new ServedConnection(connected, port, { calls, reactor, name: `client of ${port.name}` }, gone);
          } catch (error) {
            port.close();
            gone(error);
            return;
          }
          subscriber.next({ kind: 'connected' });
        },
      });
    };
    const close = (): void => {
      if (closed) return;
      closed = true;
      slot.close();
      calls.binding.close(listener);
      unlink(path);
      client?.close();
    };

    subscriber.next({ kind: 'listening', path });
    accept();
    return close;
  });
}

/** A socket that nobody listens at any more is what is left of a server that died: it is replaced. */
function listen(calls: Syscalls, path: string): number {
  try {
    return calls.listen(path, backlog);
  } catch (error) {
    if (!VfioError.is(error) || error.errno !== 'EADDRINUSE') throw error;
    if (!abandoned(calls, path)) throw new VfioError('VFIO_E_BUSY', 'another server listens here, or this is no socket: choose another path, or remove it', { operation: 'bind', device: path, errno: 'EADDRINUSE', cause: error });
    unlink(path);
    return calls.listen(path, backlog);
  }
}

function abandoned(calls: Syscalls, path: string): boolean {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return false;
  try {
    calls.binding.close(calls.connect(path));
    return false;
  } catch (error) {
    return VfioError.is(error) && error.errno === 'ECONNREFUSED';
  }
}

function unlink(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Somebody else has removed it.
  }
}
