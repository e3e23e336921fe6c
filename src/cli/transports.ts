import { VfioError } from '../errors.js';
import { fileTransport } from '../transport/file-transport.js';
import { connectTo, listenAt, parseAddress, type ConnectOptions, type ListenOptions } from '../transport/socket-transport.js';
import type { Transport } from '../transport/transport.js';

/** `file:/FOLDER`: the folder. */
function folderOf(address: string): string | undefined {
  return address.startsWith('file:') && address.length > 'file:'.length ? address.slice('file:'.length) : undefined;
}

/** Throws VFIO_E_ADDRESS where an address is none. */
export function requireAddress(address: string): void {
  if (folderOf(address) === undefined) parseAddress(address);
}

/** The way to a side that listens. Throws VFIO_E_ADDRESS. */
export function transportTo(address: string, options: ConnectOptions): Transport {
  const folder = folderOf(address);
  requirePlain(folder, options);
  return folder === undefined ? connectTo(address, options) : fileTransport(folder).connecting;
}

/** The way to a side that connects. Throws VFIO_E_ADDRESS. */
export function transportAt(address: string, options: ListenOptions): Transport {
  const folder = folderOf(address);
  requirePlain(folder, options);
  if (folder === undefined) return listenAt(address, options);
  const { listening } = fileTransport(folder);
  return {
    name: listening.name,
    open: (clock) => {
      options.listening?.(address);
      return listening.open(clock);
    },
  };
}

/** What was to be encrypted is not written into files as it is. */
function requirePlain(folder: string | undefined, { tls }: ConnectOptions): void {
  if (folder !== undefined && tls !== undefined) throw new VfioError('VFIO_E_ADDRESS', 'there is no TLS through files: take tcp:// or unix:, or a folder that nobody else reads', { operation: 'address', device: `file:${folder}` });
}
