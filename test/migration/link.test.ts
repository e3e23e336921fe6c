import { NEVER, of, Subject, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { Link } from '../../src/migration/link.js';
import type { Connection } from '../../src/transport/transport.js';
import { FrameDecoder } from '../../src/wire/frame-decoder.js';
import { MessageEncoder, type Message } from '../../src/wire/message.js';
import { MessageOrder } from '../../src/wire/message-order.js';

describe('a link', () => {
  it('writes all that has queued up behind a write that waited, and closes after it: a loop, however long the queue', () => {
    const room = new Subject<void>();
    const answers: Observable<void>[] = [room];
    const decoder = new FrameDecoder();
    const heard: number[] = [];
    let closedAfter = -1;
    const connection: Connection = {
      name: 'one that waits at first',
      read: () => NEVER,
      write: (parts) => {
        for (const part of parts) decoder.push(part, ({ payload }) => heard.push(new DataView(payload.buffer).getUint32(0, true)));
        return answers.pop() ?? of(undefined);
      },
      close: () => (closedAfter = heard.length),
    };
    const link = new Link(connection, new MessageOrder('source'));
    const numbers = Array.from({ length: 20_000 }, (_, n) => n);
    for (const bytes of numbers) link.say({ type: 'credit', device: 0, bytes });
    link.close();
    expect([heard.length, closedAfter]).toEqual([1, -1]);
    room.next();
    room.complete();
    expect(heard).toEqual(numbers);
    expect(closedAfter).toBe(numbers.length);
  });

  it('hears nothing that must not come now, nor anything after it', () => {
    const encoder = new MessageEncoder();
    const heard: string[] = [];
    const messages: readonly Message[] = [
      { type: 'hello', hello: { protocol: 'vfio-rx migration', versions: [1, 1], migration: 'm', purpose: 'resolve', devices: [] } },
      { type: 'switch-over' },
      { type: 'commit' },
    ];
    const bytes = Buffer.concat(messages.flatMap((message) => encoder.encode(message).map((part) => Buffer.from(part))));
    const connection: Connection = { name: 'peer', read: () => (heard.length === 0 ? of(bytes) : NEVER), write: () => NEVER, close: () => undefined };
    new Link(connection, new MessageOrder('source')).listen({ heard: ({ type }) => heard.push(type), failed: (error) => heard.push(VfioError.is(error) ? error.code : String(error)) });
    expect(heard).toEqual(['hello', 'VFIO_E_STREAM']);
  });

  it('says what has queued up before what is said when a write is answered', () => {
    const room = new Subject<void>();
    const answers: Observable<void>[] = [room];
    const decoder = new FrameDecoder();
    const heard: number[] = [];
    const write: Connection['write'] = (parts) => {
      for (const part of parts) decoder.push(part, ({ payload }) => heard.push(new DataView(payload.buffer).getUint32(0, true)));
      return answers.pop() ?? of(undefined);
    };
    const link = new Link({ name: 'one that waits at first', read: () => NEVER, write, close: () => undefined }, new MessageOrder('source'));
    const credit = (bytes: number): Message => ({ type: 'credit', device: 0, bytes });
    link.post(credit(1), { closed: false, answered: () => link.say(credit(3)), failed: () => undefined });
    link.say(credit(2));
    room.next();
    room.complete();
    expect(heard).toEqual([1, 2, 3]);
  });
});
