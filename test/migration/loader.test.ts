import { crc32 } from 'node:zlib';
import { NEVER, of, Subject } from 'rxjs';
import { expect, it } from 'vitest';
import { errnoError, VfioError } from '../../src/errors.js';
import { Link } from '../../src/migration/link.js';
import { Loader } from '../../src/migration/loader.js';
import type { Connection } from '../../src/transport/transport.js';
import { MessageOrder } from '../../src/wire/message-order.js';
import { Tally } from '../../src/wire/tally.js';
import { codeOf } from '../support/devices.js';

const chunks = ['one', 'two', 'three'].map((text) => Buffer.from(text));
const whole = new Tally();
for (const chunk of chunks) whole.add(chunk, crc32(chunk));

/** A device that takes bytes when it is told to. */
function loading(windowBytes = 64) {
  const written: string[] = [];
  const takes: Subject<void>[] = [];
  const said: unknown[] = [];
  const connection: Connection = { name: 'peer', read: () => NEVER, write: (parts) => { said.push(parts); return of(undefined); }, close: () => undefined };
  const resuming = {
    device: 'to0',
    write: (bytes: Uint8Array) => {
      written.push(Buffer.from(bytes).toString());
      const take = new Subject<void>();
      takes.push(take);
      return take;
    },
    end: () => NEVER,
    reset: () => NEVER,
    close: () => of(undefined),
  };
  const loader = new Loader(resuming, 0, new Link(connection, new MessageOrder('source')), windowBytes);
  const ends: string[] = [];
  const loads = loader.load().subscribe({ error: (error: unknown) => ends.push(VfioError.is(error) ? error.message : String(error)), complete: () => ends.push('loaded') });
  const take = (): void => {
    const next = takes.shift();
    next?.next();
    next?.complete();
  };
  const refuse = (error: unknown): void => takes.shift()?.error(error);
  return { loader, written, said, ends, take, refuse, leave: () => loads.unsubscribe(), isAsked: () => takes.some((one) => one.observed) };
}

it('writes one piece after the other, and is done when the last is taken, and the sum is that of the source', () => {
  const { loader, written, ends, take } = loading();
  for (const chunk of chunks) loader.take(chunk, crc32(chunk));
  loader.end(whole.bytes, whole.crc);
  expect(written).toEqual(['one']);
  take();
  take();
  expect([written, ends]).toEqual([['one', 'two', 'three'], []]);
  take();
  expect([ends, loader.bytes]).toEqual([['loaded'], 11n]);
});

it.each([['number', 12n, whole.crc], ['sum', 11n, whole.crc ^ 1]] as const)('believes in no end whose %s is another than that of what came', (_, bytes, crc) => {
  const { loader, ends, take } = loading();
  for (const chunk of chunks) loader.take(chunk, crc32(chunk));
  expect(codeOf(() => { loader.end(bytes, crc); })).toBe('VFIO_E_STREAM');
  for (let n = 0; n < 3; n += 1) take();
  expect(ends).toEqual([]);
});

it('takes no more than it gave credit for, and gives it back when the device has it', () => {
  const { loader, said, take } = loading(8);
  loader.take(Buffer.from('12345678'), 0);
  expect(codeOf(() => { loader.take(Buffer.from('9'), 0); })).toBe('VFIO_E_STREAM');
  expect(said).toHaveLength(0);
  take();
  expect(said).toHaveLength(1);
});

it('says of a device that takes no more which side it is on, and writes nothing after it', () => {
  const { loader, written, ends, refuse } = loading();
  for (const chunk of chunks) loader.take(chunk, crc32(chunk));
  refuse(errnoError('EIO', 'write data_fd', 'to0'));
  expect([ends, written]).toEqual([[expect.stringMatching(/^to0: state at the destination: write data_fd: .*EIO/)], ['one']]);
});

it('leaves the write that the device has, and begins no other, when it is left', () => {
  const { loader, written, ends, leave, isAsked } = loading();
  for (const chunk of chunks) loader.take(chunk, crc32(chunk));
  expect(isAsked()).toBe(true);
  leave();
  expect([isAsked(), written, ends]).toEqual([false, ['one'], []]);
});
