import { map, of, Subject, take } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { clientMemory } from '../../../src/devices/vfio-user/client-memory.js';
import { encodeDmaAccess, readDmaData, readDmaPart } from '../../../src/devices/vfio-user/messages/dma.js';
import { codeOf, now } from '../../support/devices.js';

/** A client that answers whatever the test says. */
function answering(payload: Uint8Array) {
  const asked: (readonly [string, Uint8Array])[] = [];
  const closed: number[] = [];
  const connection = {
    request: (command: string, _: string, question = new Uint8Array()) => {
      asked.push([command, question]);
      return of({ payload, fds: [7] });
    },
    closeFds: (fds: readonly number[]) => void closed.push(...fds),
  };
  return { memory: clientMemory(() => connection, () => 1 << 20), asked, closed };
}

describe('a client\'s memory', () => {
  it('is read by DMA_READ', () => {
    const { memory, asked, closed } = answering(encodeDmaAccess({ iova: 0x1000n, size: 3 }, Uint8Array.of(1, 2, 3)));
    expect([...now(memory.read(0x1000n, 3))]).toEqual([1, 2, 3]);
    expect(asked.map(([command, question]) => [command, readDmaPart(question)])).toEqual([['DMA_READ', { iova: 0x1000n, size: 3 }]]);
    // Nobody asked for those.
    expect(closed).toEqual([7]);
  });

  it('is written by DMA_WRITE, whose replies are of several lengths', () => {
    for (const reply of [encodeDmaAccess({ iova: 0n, size: 1 }), new Uint8Array(12), new Uint8Array()]) {
      const { memory, asked } = answering(reply);
      now(memory.write(0x2000n, Uint8Array.of(9)));
      expect(asked.map(([command, question]) => [command, readDmaData(question)])).toEqual([['DMA_WRITE', { iova: 0x2000n, size: 1, data: Uint8Array.of(9) }]]);
    }
  });

  it('that comes shorter than asked for, or cut off, is no memory', () => {
    for (const reply of [encodeDmaAccess({ iova: 0n, size: 2 }, Uint8Array.of(1, 2)), encodeDmaAccess({ iova: 0n, size: 3 }, Uint8Array.of(1)), new Uint8Array(3)]) {
      expect(codeOf(() => now(answering(reply).memory.read(0n, 3)))).toBe('VFIO_E_PROTOCOL');
    }
  });

  it('is reached in parts where the client takes no more with one message', () => {
    const asked: string[] = [];
    const connection = {
      request: (command: string, _: string, question = new Uint8Array()) => {
        const { iova, size } = readDmaPart(question);
        asked.push(`${command} ${iova}+${size}`);
        return of({ payload: encodeDmaAccess({ iova, size }, new Uint8Array(size).fill(Number(iova))), fds: [] });
      },
      closeFds: () => undefined,
    };
    const memory = clientMemory(() => connection, () => 4);
    expect([...now(memory.read(0n, 10))]).toEqual([0, 0, 0, 0, 4, 4, 4, 4, 8, 8]);
    now(memory.write(100n, new Uint8Array(5)));
    expect(asked).toEqual(['DMA_READ 0+4', 'DMA_READ 4+4', 'DMA_READ 8+2', 'DMA_WRITE 100+4', 'DMA_WRITE 104+1']);
  });

  it('is written with what was given, whatever the caller does with it between the parts', () => {
    const told = new Subject<void>();
    const written: number[] = [];
    const connection = {
      request: (_: string, __: string, question = new Uint8Array()) => {
        written.push(...readDmaData(question).data);
        return told.pipe(take(1), map(() => ({ payload: new Uint8Array(), fds: [] })));
      },
      closeFds: () => undefined,
    };
    const bytes = Buffer.from([1, 1, 1, 1, 1]);
    clientMemory(() => connection, () => 4).write(0n, bytes).subscribe({ error: expect.unreachable });
    bytes.fill(2);
    told.next();
    expect(written).toEqual([1, 1, 1, 1, 1]);
  });
});
