import { concatMap, defer, map, of, tap } from 'rxjs';
import type { Connection, Transport } from '../../src/transport/transport.js';
import { FrameDecoder } from '../../src/wire/frame-decoder.js';
import { headerBytes } from '../../src/wire/frame.js';

/** Where one side does something: at one of its messages, or after so many bytes, that it says or that it hears. */
export interface Spot {
  readonly way: 'says' | 'hears';
  readonly at: { readonly message: number; readonly when: 'before' | 'after' } | { readonly byte: number };
}

/** What a side has said so far, in bytes for each message. */
export type Said = number[];

/** A transport that acts at one spot. `act` may not return: then nothing after the spot has happened. */
export function acting(transport: Transport, spot: Spot | undefined, act: (connection: Connection) => void, said: Said = []): Transport {
  const altered = (connection: Connection): Connection => ({
    name: connection.name,
    close: () => { connection.close(); },
    read: spot?.way === 'hears' ? hearing(connection, spot.at, () => act(connection)) : () => connection.read(),
    write: saying(connection, spot?.way === 'says' ? spot.at : undefined, () => act(connection), said),
  });
  return { name: transport.name, open: (clock) => transport.open(clock).pipe(map(altered)) };
}

/** Each write is one message. */
function saying(connection: Connection, at: Spot['at'] | undefined, act: () => void, said: Said): Connection['write'] {
  let before = 0;
  return (parts) =>
    defer(() => {
      const bytes = Buffer.concat(parts);
      const start = before;
      before += bytes.length;
      said.push(bytes.length);
      if (at === undefined) return connection.write([bytes]);
      if ('byte' in at) {
        if (at.byte < start || at.byte >= before) return connection.write([bytes]);
        return connection.write([bytes.subarray(0, at.byte - start)]).pipe(tap({ complete: act }));
      }
      const mine = said.length - 1 === at.message;
      if (mine && at.when === 'before') act();
      return connection.write([bytes]).pipe(tap({ complete: () => { if (mine && at.when === 'after') act(); } }));
    });
}

/** Passes on what comes up to the spot; what is there already has been heard, and what follows from it in this turn done, before it acts. */
function hearing(connection: Connection, at: Spot['at'], act: () => void): Connection['read'] {
  const decoder = new FrameDecoder();
  let frames = 0;
  let parsed = 0;
  let passed = 0;
  let held: Uint8Array | undefined;
  /** The byte before which it acts. */
  let spot = 'byte' in at ? at.byte : at.message === 0 && at.when === 'before' ? 0 : Infinity;
  const parse = (bytes: Uint8Array): void => {
    decoder.push(Buffer.from(bytes), ({ payload }) => {
      parsed += headerBytes + payload.length;
      if (!('byte' in at) && frames === (at.when === 'before' ? at.message - 1 : at.message)) spot = parsed;
      frames += 1;
    });
  };
  /** Just before a message is when its first byte has come. */
  const waitsForMore = !('byte' in at) && at.when === 'before';
  const pass = (bytes: Uint8Array): Uint8Array => {
    const room = spot - passed;
    if (room <= 0) act();
    const now = bytes.subarray(0, Math.max(1, Math.min(room, bytes.length)));
    held = now.length < bytes.length ? bytes.subarray(now.length) : undefined;
    passed += now.length;
    if (passed >= spot && !waitsForMore) setImmediate(act);
    return now;
  };
  return () =>
    defer(() => {
      if (held !== undefined) return of(pass(held));
      return connection.read().pipe(
        tap((bytes) => { if (bytes !== undefined) parse(bytes); }),
        concatMap((bytes) => of(bytes === undefined ? undefined : pass(bytes))),
      );
    });
}
