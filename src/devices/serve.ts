import type { Observable } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { realClock } from '../clock.js';
import { openPort, type DeviceAddress } from './open.js';
import { serveAt, type ServerEvent } from './vfio-user/user-server.js';

export type { ServerEvent };

/**
 * Serves a device at a UNIX socket by vfio-user, to one client after the other; each gets the device freshly opened.
 *
 * ```
 * serveDevice  --listening--connected--gone--connected--gone--...
 * ```
 *
 * **Emits** when it listens, and when a client comes and has gone; `gone` has an error where the client broke the protocol, or the device could not be
 * opened for it. **Drops** nothing. **Completes** never. **Fails** with VFIO_E_BUSY where another server listens at this path, by errno where the socket
 * cannot be made, by `signal` with VFIO_E_ABORTED. **Releases** on unsubscribe the device, the client and the socket's file.
 *
 * @example
 * const serving = serveDevice('0000:03:00.0', '/run/device.sock').subscribe(({ kind }) => console.log(kind));
 * @see openDevice with `vfio-user:/run/device.sock`
 */
export function serveDevice(address: DeviceAddress, path: string, options: Abortable = {}): Observable<ServerEvent> {
  return serveAt(path, () => openPort(address, realClock)).pipe(untilAborted(options.signal, { operation: 'serve', device: `vfio-user:${path}` }));
}
