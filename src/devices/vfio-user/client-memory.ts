import { defer, map, tap } from 'rxjs';
import type { Call, RemoteMemory } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import type { Reply, UserConnection } from './connection.js';
import { encodeDmaAccess, readDmaData } from './messages/dma.js';

/** A client's memory by DMA_READ and DMA_WRITE, which it answers whatever else is outstanding. What it answers is checked. */
export function clientMemory(connection: () => Pick<UserConnection, 'request' | 'closeFds'>): RemoteMemory {
  const request = (command: 'DMA_READ' | 'DMA_WRITE', payload: Uint8Array): Call<Reply> => defer(() => connection().request(command, command, payload)).pipe(tap(({ fds }) => connection().closeFds(fds)));
  return {
    read: (iova, bytes) =>
      request('DMA_READ', encodeDmaAccess({ iova, size: bytes })).pipe(
        map(({ payload }) => {
          const reply = readDmaData(payload);
          if (reply.size !== bytes) throw protocolError({ operation: 'DMA_READ' }, 8, `${reply.size} bytes came where ${bytes} were asked for`);
          return reply.data;
        }),
      ),
    // How long this reply is differs from client to client, and it says nothing.
    write: (iova, bytes) => request('DMA_WRITE', encodeDmaAccess({ iova, size: bytes.length }, bytes)).pipe(map(() => undefined)),
  };
}
