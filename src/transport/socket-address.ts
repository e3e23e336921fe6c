import { isIPv4 } from 'node:net';
import { sockets } from '../devices/linux/stream-calls.js';
import { unixSockaddr } from '../devices/linux/unix-address.js';

/** A sockaddr, and how it reads. */
export interface SocketAddress {
  readonly family: number;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** Undefined for a path that no sockaddr_un holds. */
export function unixAddress(path: string): SocketAddress | undefined {
  const bytes = unixSockaddr(path);
  return bytes === undefined ? undefined : { family: sockets.AF_UNIX, bytes, text: path };
}

/** sockaddr_in or sockaddr_in6 of an address in its usual notation, without a zone. */
export function ipAddress(address: string, port: number): SocketAddress {
  const v4 = isIPv4(address);
  const bytes = new Uint8Array(v4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, v4 ? sockets.AF_INET : sockets.AF_INET6, true);
  view.setUint16(2, port);
  if (v4) address.split('.').forEach((part, n) => view.setUint8(4 + n, Number(part)));
  else groupsOf(address).forEach((group, n) => view.setUint16(8 + 2 * n, group));
  return { family: v4 ? sockets.AF_INET : sockets.AF_INET6, bytes, text: v4 ? `${address}:${port}` : `[${address}]:${port}` };
}

/** HOST:PORT of a sockaddr; undefined where it is of another family. */
export function hostAndPort(bytes: Uint8Array): string | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const family = bytes.length < 2 ? 0 : view.getUint16(0, true);
  if (family === sockets.AF_INET && bytes.length >= 8) return `${bytes.subarray(4, 8).join('.')}:${view.getUint16(2)}`;
  if (family !== sockets.AF_INET6 || bytes.length < 24) return undefined;
  const groups = Array.from({ length: 8 }, (_, n) => view.getUint16(8 + 2 * n).toString(16));
  return `${new URL(`http://[${groups.join(':')}]`).hostname}:${view.getUint16(2)}`;
}

/** The eight groups of an IPv6 address; a URL knows every way to write one, and has a single one itself. */
function groupsOf(address: string): readonly number[] {
  const [left = '', right] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::').map((half) => half.split(':').filter((group) => group !== ''));
  const [head, tail] = [left as readonly string[], right ?? []];
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0');
  return [...head, ...zeros, ...tail].map((group) => Number.parseInt(group, 16));
}
