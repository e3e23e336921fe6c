import { map, Observable } from 'rxjs';
import type { Clock } from '../../clock.js';
import { VfioError } from '../../errors.js';
import { sharedReactor, type Reactor } from '../linux/reactor.js';
import { linuxSyscalls, type Syscalls } from '../linux/syscalls.js';
import type { Call, DevicePort } from '../port.js';
import { UserPort } from './user-port.js';

/** Connects to a vfio-user server and agrees on a version. Unsubscribing before that has ended closes the connection; on failure nothing is left open. */
export function openUserPort(path: string, clock: Clock, parts: { readonly calls?: Syscalls; readonly reactor?: Reactor } = {}): Call<DevicePort> {
  return new Observable<DevicePort>((subscriber) => {
    const name = `vfio-user:${path}`;
    let port: UserPort;
    try {
      const calls = parts.calls ?? linuxSyscalls();
      port = new UserPort(name, connect(calls, path, name), { calls, reactor: parts.reactor ?? sharedReactor(), clock });
    } catch (error) {
      subscriber.error(error);
      return undefined;
    }
    let handedOver = false;
    const negotiating = port.negotiate().pipe(map(() => port)).subscribe({
      next: (opened) => {
        handedOver = true;
        subscriber.next(opened);
        subscriber.complete();
      },
      error: (error: unknown) => subscriber.error(error),
    });
    return () => {
      negotiating.unsubscribe();
      if (!handedOver) port.abandon();
    };
  });
}

function connect(calls: Syscalls, path: string, name: string): number {
  try {
    return calls.connect(path);
  } catch (error) {
    if (!VfioError.is(error)) throw error;
    const { errno } = error;
    if (errno === 'ECONNREFUSED') throw new VfioError('VFIO_E_NO_DEVICE', 'nobody listens at this socket: start the server', { operation: 'connect', device: name, errno, cause: error });
    if (errno === 'ENOENT' || errno === 'ENOTSOCK' || errno === 'ENAMETOOLONG') throw new VfioError('VFIO_E_ADDRESS', 'no such socket: check the path (at most 107 bytes), and that the server runs', { operation: 'connect', device: name, errno, cause: error });
    throw error;
  }
}
