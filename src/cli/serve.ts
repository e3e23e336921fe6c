import { concat, defer, EMPTY, ignoreElements, of, take, takeUntil, tap, type Observable } from 'rxjs';
import { withDevice, type DeviceAddress } from '../devices/open.js';
import { serveDevice, type ServerEvent } from '../devices/serve.js';
import { VfioError } from '../errors.js';
import { jsonLine, say, type Screen } from './show.js';
import { tryFile } from './write-text.js';

/** What `vfio-rx serve` is told. */
export interface ServeOptions {
  readonly address: DeviceAddress;
  /** How the device is called in what is written. */
  readonly name: string;
  /** `unix:/PATH`. */
  readonly at: string;
}

/** Serves a device until the interrupt, and says who comes and goes. Emits the exit code. Fails as `serveDevice` does, with VFIO_E_ADDRESS, and as `openDevice` does: it is opened once before it is offered. */
export function serveCommand({ address, name, at }: ServeOptions, screen: Pick<Screen, 'write' | 'json'>, interrupt: Observable<unknown>): Observable<number> {
  let opened = false;
  const served = defer(() => {
    const path = pathOf(at);
    tryFile(path, 'bind');
    return concat(withDevice(address, () => EMPTY), defer(() => {
      opened = true;
      return serveDevice(address, path);
    }));
  });
  const told = served.pipe(
    tap((event) => screen.write(screen.json ? jsonLine({ device: name, ...event }) : `${lineOf(event, name)}\n`)),
    takeUntil(interrupt.pipe(take(1), tap(() => say(screen, { device: name, kind: 'interrupted' }, opened ? `interrupted: ${name} is served no longer` : 'interrupted before the device was open')))),
  );
  return concat(told.pipe(ignoreElements()), of(0));
}

function pathOf(at: string): string {
  const [, path] = /^unix:(.+)$/s.exec(at) ?? [];
  if (path !== undefined) return path;
  throw new VfioError('VFIO_E_ADDRESS', `"${at}" is no address to serve at: unix:/PATH`, { operation: 'serve' });
}

function lineOf(event: ServerEvent, name: string): string {
  switch (event.kind) {
    case 'listening':
      return `${name} is served at ${event.path}: vfio-user:${event.path}`;
    case 'connected':
      return 'a client has come';
    case 'gone':
      return event.error === undefined ? 'the client has gone' : `the client has gone: ${event.error.message}`;
  }
}
