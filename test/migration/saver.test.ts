import { firstValueFrom, NEVER, of, Subject, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { openDevice } from '../../src/devices/open.js';
import type { Chunk } from '../../src/devices/port.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { errnoError } from '../../src/errors.js';
import { Link } from '../../src/migration/link.js';
import { Saver } from '../../src/migration/saver.js';
import type { SavedState } from '../../src/streams/saved-state.js';
import type { Connection } from '../../src/transport/transport.js';
import { MessageOrder } from '../../src/wire/message-order.js';

/** A device that says 1, 2, 3 and so on, into the memory that it is given, and a connection that answers the first writes at once and the others when it is told to. */
async function saving(chunks: number, windowBytes = 64, atOnce = 0) {
  const sent: (readonly Uint8Array[])[] = [];
  const answers: Subject<void>[] = [];
  const connection: Connection = {
    name: 'a slow one',
    read: () => NEVER,
    write: (parts) => {
      sent.push(parts);
      if (sent.length <= atOnce) return of(undefined);
      const answer = new Subject<void>();
      answers.push(answer);
      return answer;
    },
    close: () => undefined,
  };
  let reads = 0;
  const saved: SavedState = {
    device: 'vf0',
    read: (most, into = new Uint8Array(most)) => {
      reads += 1;
      return of<Chunk>(reads > chunks ? { kind: 'end' } : { kind: 'bytes', bytes: into.subarray(0, most).fill(reads) });
    },
    precopy: () => NEVER,
    rounds: NEVER,
    close: () => of(undefined),
  };
  const saver = new Saver(await firstValueFrom(openDevice(softwareDevice())), 0, new Link(connection, new MessageOrder('destination')), { version: 1, migration: 'm', windowBytes, chunkBytes: 4 }, () => undefined);
  saver.saved = saved;
  return {
    saver, sent,
    reads: () => reads,
    payloads: () => sent.map(([, payload]) => payload?.[0]),
    refuse: () => answers.shift()?.error(new Error('gone')),
    answer: () => {
      const next = answers.shift();
      next?.next();
      next?.complete();
    },
  };
}

describe('a saver', () => {
  it('reads one chunk ahead of the one that is on its way, and no more', async () => {
    const { saver, reads, sent, payloads, answer } = await saving(3);
    let over = false;
    saver.rest().subscribe({ error: (error: unknown) => { throw error; }, complete: () => (over = true) });
    expect([reads(), sent.length]).toEqual([2, 1]);
    // What is on its way stays as it is while the next one is read.
    expect(payloads()).toEqual([1]);
    answer();
    expect([reads(), sent.length]).toEqual([3, 2]);
    answer();
    answer();
    expect([reads(), sent.length, over]).toEqual([4, 4, false]);
    answer();
    expect(over).toBe(true);
    expect(saver.bytes).toBe(12n);
  });

  it('leaves a chunk that is on its way as it is, however fast the one before it went', async () => {
    const { saver, payloads, reads } = await saving(3, 64, 1);
    const moving = saver.rest().subscribe({ error: (error: unknown) => { throw error; } });
    expect(reads()).toBe(3);
    // Both came into the same memory; only the first is done with.
    expect(payloads().at(-1)).toBe(2);
    moving.unsubscribe();
  });

  it('reads nothing without credit', async () => {
    const { saver, reads, answer } = await saving(9, 8);
    const moving = saver.rest().subscribe({ error: (error: unknown) => { throw error; } });
    for (let n = 0; n < 5; n += 1) answer();
    expect(reads()).toBe(2);
    saver.give(8);
    for (let n = 0; n < 5; n += 1) answer();
    expect(reads()).toBe(4);
    moving.unsubscribe();
  });

  it('says of a device that says no more which side it is on', async () => {
    const { saver } = await saving(3);
    saver.saved = { ...(saver.saved as SavedState), read: () => throwError(() => errnoError('EIO', 'read data_fd', saver.device.name)) };
    let failed: unknown;
    saver.round().subscribe({ error: (error: unknown) => (failed = error) });
    expect(failed).toMatchObject({ code: 'VFIO_E_IO', errno: 'EIO', device: saver.device.name, operation: 'state at the source', message: expect.stringContaining('read data_fd') as string });
  });

  it('reads no more when the connection takes no more, and says why', async () => {
    const { saver, reads, refuse } = await saving(9);
    const failed: unknown[] = [];
    saver.rest().subscribe({ error: (error: unknown) => failed.push(error) });
    refuse();
    expect([failed, reads()]).toEqual([[expect.objectContaining({ code: 'VFIO_E_LINK' })], 2]);
  });
});
