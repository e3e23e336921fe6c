import { lstatSync, unlinkSync } from 'node:fs';
import { defer, Observable, type Subscription } from 'rxjs';
import { realClock } from '../../clock.js';
import { warningChannel } from '../../diagnostics.js';
import { fileErrnoError, VfioError } from '../../errors.js';
import { sharedReactor, type ReadySlot, type Reactor } from '../linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { releasedInTime } from './port-release.js';
import { ServedConnection } from './served-connection.js';

/** What a server tells. */
export type ServerEvent =
  | { readonly kind: 'listening'; readonly path: string }
  | { readonly kind: 'connected' }
  /** The client has gone and the device is closed. `error`: it broke the protocol, the device could not be opened for it, or is not released. */
  | { readonly kind: 'gone'; readonly error?: VfioError };

/** How many clients wait for the one that is served; more are refused. */
const backlog = 16;

/** After so long a client is tried again for whom there was no fd, or no memory, ms. */
const retryMs = 100;

/**
 * Listens at a path and serves a device to one client after the other: each gets it freshly opened. Ends when it is unsubscribed; then the device
 * is closed and the socket's file is removed.
 */
export function serveAt(path: string, open: () => Call<DevicePort>, parts: { readonly calls?: Syscalls; readonly reactor?: Reactor } = {}): Observable<ServerEvent> {
  return new Observable<ServerEvent>((subscriber) => {
    const calls = parts.calls ?? linuxSyscalls();
    const reactor = parts.reactor ?? sharedReactor();
    const listener = listen(calls, path);
    let slot: ReadySlot;
    try {
      slot = reactor.addReady(listener);
    } catch (error) {
      calls.binding.close(listener);
      unlink(path);
      throw error;
    }
    const own = inodeOf(path);
    /** Whom the device is served to, or opened for. */
    let client: { close(): void } | undefined;
    let short = false;
    let retry: Subscription | undefined;
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
        if (isShortage(error)) {
          if (!short) warn(path, error);
          short = true;
          retry = realClock.scheduler.schedule(accept, retryMs);
          return;
        }
        close();
        subscriber.error(error);
        return;
      }
      short = false;
      if (fd === undefined) accept();
      else take(fd);
    };
    const take = (connected: number): void => {
      let port: DevicePort | undefined;
      const opening = defer(open).subscribe({
        next: (opened) => (port = opened),
        error: (error: unknown) => {
          calls.binding.close(connected);
          if (port === undefined) gone(error);
          else giveBack(port, error);
        },
        complete: () => {
          if (port !== undefined && !closed) {
            serve(connected, port);
            return;
          }
          port?.close();
          calls.binding.close(connected);
          gone();
        },
      });
      if (opening.closed) return;
      client = {
        close() {
          opening.unsubscribe();
          port?.close();
          calls.binding.close(connected);
        },
      };
    };
    const serve = (connected: number, port: DevicePort): void => {
      try {
        client = new ServedConnection(connected, port, { calls, reactor, name: `client of ${port.name}` }, gone);
      } catch (error) {
        giveBack(port, error);
        return;
      }
      subscriber.next({ kind: 'connected' });
    };
    /** Of a client whose fd is closed already: what is closed twice is somebody else's. */
    const giveBack = (port: DevicePort, error: unknown): void => {
      client = undefined;
      port.close();
      releasedInTime(port).subscribe({ complete: () => gone(error), error: gone });
    };
    const close = (): void => {
      if (closed) return;
      closed = true;
      retry?.unsubscribe();
      slot.close();
      calls.binding.close(listener);
      // Another server may have taken the path over.
      if (inodeOf(path) === own) unlink(path);
      client?.close();
    };

    subscriber.next({ kind: 'listening', path });
    accept();
    return close;
  });
}

/** Of fds or memory, this process's or the system's: it passes. */
function isShortage(error: unknown): boolean {
  return VfioError.is(error) && ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM'].includes(error.errno ?? '');
}

function warn(path: string, error: unknown): void {
  if (!warningChannel.hasSubscribers) return;
  warningChannel.publish({ device: path, atNs: realClock.nowNs(), what: `a client waits that cannot be taken on: it is tried again every ${retryMs} ms`, error });
}

function inodeOf(path: string): bigint | undefined {
  return lstatSync(path, { throwIfNoEntry: false, bigint: true })?.ino;
}

/** A socket that nobody listens at any more is what is left of a server that died: it is replaced. */
function listen(calls: Syscalls, path: string): number {
  try {
    return calls.listen(path, backlog);
  } catch (error) {
    if (!VfioError.is(error) || error.errno === undefined) throw error;
    if (error.errno !== 'EADDRINUSE') throw fileErrnoError(error.errno, 'bind', path, error);
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
