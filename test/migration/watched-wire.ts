import { defer, map, tap } from 'rxjs';
import type { Connection, Transport } from '../../src/transport/transport.js';
import { frameTypes, type FrameType } from '../../src/wire/frame.js';

/** What a test does with the messages of one side. Each write is one. */
export interface WireWatch {
  /** Before it goes out; what comes back is sent instead. */
  readonly before?: (type: FrameType, n: number, bytes: Uint8Array) => Uint8Array | undefined;
  readonly after?: (type: FrameType, n: number) => void;
}

/** A transport that tells its messages, and counts what it has open. */
export function watchedWire(transport: Transport, watch: WireWatch): Transport & { readonly connections: { open: number } } {
  const counts = { open: 0 };
  let n = -1;
  const watched = (connection: Connection): Connection => {
    let closed = false;
    counts.open += 1;
    return {
      name: connection.name,
      read: () => connection.read(),
      write: (parts) =>
        defer(() => {
          const bytes = Buffer.concat(parts);
          // The number of each type on the wire is its place, from 1.
          const type = frameTypes[bytes.readUInt8(4) - 1] as FrameType;
          const mine = (n += 1);
          return connection.write([watch.before?.(type, mine, bytes) ?? bytes]).pipe(tap({ complete: () => watch.after?.(type, mine) }));
        }),
      close: () => {
        if (!closed) counts.open -= 1;
        closed = true;
        connection.close();
      },
    };
  };
  return { name: transport.name, connections: counts, open: (clock) => transport.open(clock).pipe(map(watched)) };
}
