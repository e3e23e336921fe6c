import { sockets } from './stream-calls.js';

/** What the path of a UNIX socket takes at most, bytes. */
export const mostPathBytes = 107;

/** struct sockaddr_un. */
const layout = { family: 0, path: 2, sizeof: 110 } as const;

/** The sockaddr of a socket in the file system; undefined for a path that none holds. */
export function unixSockaddr(path: string): Uint8Array | undefined {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.length > mostPathBytes || name.includes(0)) return undefined;
  const bytes = new Uint8Array(layout.sizeof);
  new DataView(bytes.buffer).setUint16(layout.family, sockets.AF_UNIX, true);
  bytes.set(name, layout.path);
  return bytes;
}
