import { defer, map, tap } from 'rxjs';
import type { Call, RemoteMemory } from '../port.js';
import { steps } from '../steps.js';
import { protocolError } from '../uapi/bytes.js';
import type { Reply, UserConnection } from './connection.js';
import { encodeDmaAccess, readDmaData } from './messages/dma.js';

/**
 * A client's memory by DMA_READ and DMA_WRITE, which it answers whatever else is outstanding. What it answers is checked.
 *
 * @param mostBytes what the client takes with one message, by its VERSION
 */
export function clientMemory(connection: () => Pick<UserConnection, 'request' | 'closeFds'>, mostBytes: () => number): RemoteMemory {
  const request = (command: 'DMA_READ' | 'DMA_WRITE', payload: Uint8Array): Call<Reply> => defer(() => connection().request(command, command, payload)).pipe(tap(({ fds }) => connection().closeFds(fds)));
  const readPart = (iova: bigint, bytes: number): Call<Uint8Array> =>
    request('DMA_READ', encodeDmaAccess({ iova, size: bytes })).pipe(
      map(({ payload }) => {
        const reply = readDmaData(payload);
        if (reply.size !== bytes) throw protocolError({ operation: 'DMA_READ' }, 8, `${reply.size} bytes came where ${bytes} were asked for`);
        return reply.data;
      }),
    );
  // How long this reply is differs from client to client, and it says nothing.
  const writePart = (iova: bigint, bytes: Uint8Array): Call<void> => request('DMA_WRITE', encodeDmaAccess({ iova, size: bytes.length }, bytes)).pipe(map(() => undefined));
  return {
    read: (iova, bytes) => steps(function* () {
      if (bytes <= mostBytes()) return (yield readPart(iova, bytes)) as Uint8Array;
      const whole = new Uint8Array(bytes);
      for (let at = 0; at < bytes; at += mostBytes()) whole.set((yield readPart(iova + BigInt(at), Math.min(mostBytes(), bytes - at))) as Uint8Array, at);
      return whole;
    }),
    write: (iova, bytes) => steps(function* () {
      // The bytes are the caller's once a part is on its way.
      const whole = bytes.length > mostBytes() ? new Uint8Array(bytes) : bytes;
      for (let at = 0; at < whole.length; at += mostBytes()) yield writePart(iova + BigInt(at), whole.subarray(at, at + mostBytes()));
    }),
  };
}
