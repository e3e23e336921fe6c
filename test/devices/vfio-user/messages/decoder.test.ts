import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../../../src/errors.js';
import { MessageDecoder, type Sink } from '../../../../src/devices/vfio-user/messages/decoder.js';
import { encodeMessage, maxMessageBytes, maxMessageFds, type Message } from '../../../../src/devices/vfio-user/messages/header.js';

/** Messages that the decoder gets in all, in CI; a longer run: VFIO_RX_USER_RUNS. */
const runs = Number(process.env['VFIO_RX_USER_RUNS'] ?? 2000);

const message = fc.record({
  id: fc.nat(0xffff),
  command: fc.nat(0xffff),
  kind: fc.constantFrom('command' as const, 'no-reply' as const, 'reply' as const),
  payload: fc.uint8Array({ maxLength: 80 }),
  fds: fc.nat(3),
});

function pushed(decoder: MessageDecoder, bytes: Uint8Array, fds: readonly number[] = []): Message[] {
  const messages: Message[] = [];
  decoder.push(bytes, fds, (one) => messages.push(one));
  return messages;
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

describe('MessageDecoder', () => {
  it('makes the same messages of the same bytes, however they are cut', () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sent, cuts) => {
        const bytes = joined(sent.map(({ payload, ...envelope }) => encodeMessage(envelope, payload)));
        const decoder = new MessageDecoder(() => expect.unreachable('no fds were sent'));
        const got: Message[] = [];
        for (let at = 0, n = 0; at < bytes.length; n += 1) {
          const end = at + (cuts[n % cuts.length] ?? 1);
          got.push(...pushed(decoder, bytes.subarray(at, end)));
          at = end;
        }
        expect(got.map(({ header, payload }) => [header.id, header.command, header.reply, header.noReply, [...payload]])).toEqual(
          sent.map(({ id, command, kind, payload }) => [id, command, kind === 'reply', kind === 'no-reply', [...payload]]),
        );
        expect(decoder.inside).toBe(false);
      }),
      { numRuns: runs },
    );
  });

  it('gives each message the fds that came with its first byte, when no more is read than is wanted', () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 6 }), (sent) => {
        const decoder = new MessageDecoder(() => expect.unreachable('all fds have a message'));
        let next = 3;
        const expected: number[][] = [];
        const got: Message[] = [];
        for (const { payload, fds, ...envelope } of sent) {
          const bytes = encodeMessage(envelope, payload);
          const own = Array.from({ length: fds }, () => (next += 1));
          expected.push(own);
          for (let at = 0; at < bytes.length; ) {
            const part = bytes.subarray(at, at + decoder.wanted);
            got.push(...pushed(decoder, part, at === 0 ? own : []));
            at += part.length;
          }
        }
        expect(got.map(({ fds }) => fds)).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('survives whatever comes, and every fd ends in a message or is given back', () => {
    const chunk = fc.tuple(fc.oneof(fc.uint8Array({ maxLength: 64 }), message.map(({ payload, ...envelope }) => encodeMessage(envelope, payload))), fc.nat(2));
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 8 }), (chunks) => {
        const out: number[] = [];
        const decoder = new MessageDecoder((fds) => out.push(...fds));
        let next = 0;
        for (const [bytes, count] of chunks) {
          const fds = Array.from({ length: count }, () => (next += 1));
          try {
            decoder.push(bytes, fds, (one) => out.push(...one.fds));
          } catch (error) {
            expect(VfioError.is(error) && error.code).toBe('VFIO_E_PROTOCOL');
          }
          expect(decoder.wanted).toBeLessThanOrEqual(maxMessageBytes);
        }
        decoder.end();
        expect(out.sort((a, b) => a - b)).toEqual(Array.from({ length: next }, (_, n) => n + 1));
      }),
      { numRuns: runs },
    );
  });

  it('refuses fds that come in the middle of a message, and more of them than one may carry', () => {
    const bytes = encodeMessage({ id: 1, command: 2, kind: 'command' }, new Uint8Array(8));
    const refused: number[] = [];
    const decoder = new MessageDecoder((fds) => refused.push(...fds));
    pushed(decoder, bytes.subarray(0, 16), [5]);
    expect(() => pushed(decoder, bytes.subarray(16), [6])).toThrow(/later byte/);
    expect(refused).toEqual([6, 5]);
    const late = new MessageDecoder((fds) => refused.push(...fds));
    pushed(late, bytes.subarray(0, 16));
    expect(() => pushed(late, bytes.subarray(16), [7])).toThrow(/later byte/);
    expect(refused.splice(2)).toEqual([7]);
    const many = new MessageDecoder((fds) => refused.push(...fds));
    const fds = Array.from({ length: maxMessageFds + 1 }, (_, n) => n);
    expect(() => pushed(many, bytes, fds)).toThrow(/17 file descriptors/);
    expect(refused.slice(2)).toEqual(fds);
  });

  it('takes nothing after it was broken, and asks for no memory that the header has not earned', () => {
    const decoder = new MessageDecoder(() => undefined);
    const bytes = encodeMessage({ id: 1, command: 2, kind: 'command' });
    new DataView(bytes.buffer).setUint32(4, 0xffff_fff0, true);
    expect(() => pushed(decoder, bytes)).toThrow(/4294967280 bytes/);
    expect(() => pushed(decoder, encodeMessage({ id: 1, command: 2, kind: 'command' }))).toThrow(/4294967280 bytes/);
  });

  it('puts the end of a payload into memory that somebody gave for it, however it is cut, and only what fits', () => {
    const payload = Uint8Array.from({ length: 24 }, (_, n) => n + 1);
    const bytes = joined([encodeMessage({ id: 7, command: 17, kind: 'reply' }, payload), encodeMessage({ id: 8, command: 9, kind: 'reply' }, Uint8Array.of(5))]);
    for (const room of [15, 16, 40]) {
      for (let cut = 1; cut < bytes.length; cut += 1) {
        const into = new Uint8Array(room);
        const decoder = new MessageDecoder(() => expect.unreachable('no fds were sent'), ({ id }) => (id === 7 ? { prefix: 8, into } : undefined));
        // Its header comes by itself: else the message is delivered where it stands.
        const got = [bytes.subarray(0, Math.min(cut, 16)), bytes.subarray(Math.min(cut, 16), cut), bytes.subarray(cut)].flatMap((piece) => pushed(decoder, piece));
        const [first, second] = got;
        const sunk = room >= 16 ? payload.slice(8) : undefined;
        expect([first?.payload, first?.data, second?.payload]).toEqual([sunk === undefined ? payload : payload.slice(0, 8), sunk, Uint8Array.of(5)]);
        expect(into.subarray(0, 16)).toEqual(sunk ?? new Uint8Array(room));
      }
    }
  });

  it('takes bytes that were read into their place for what they are, and leaves memory that is not given any more', () => {
    const payload = new Uint8Array(8 + 8192).fill(3);
    const bytes = encodeMessage({ id: 7, command: 17, kind: 'reply' }, payload);
    const into = new Uint8Array(8192);
    const sink: Sink = { prefix: 8, into };
    const decoder = new MessageDecoder(() => undefined, () => sink);
    pushed(decoder, bytes.subarray(0, 24));
    const memory = decoder.memory();
    expect([memory?.buffer, memory?.length, decoder.wanted]).toEqual([into.buffer, 8192, 8192]);
    memory?.fill(3, 0, 100);
    expect(pushed(decoder, memory?.subarray(0, 100) ?? bytes)).toEqual([]);
    sink.into = undefined;
    // Other memory is made once, however small the pieces are that come.
    const other = decoder.memory()?.buffer;
    expect(pushed(decoder, bytes.subarray(124, 125))).toEqual([]);
    expect([other === into.buffer, decoder.memory()?.buffer === other]).toEqual([false, true]);
    const [message] = pushed(decoder, bytes.subarray(125));
    expect(message?.data).toHaveLength(8192);
    expect([into[99], into[100]]).toEqual([3, 0]);
    // A few missing bytes are not worth a read of their own.
    pushed(decoder, encodeMessage({ id: 7, command: 17, kind: 'reply' }, payload).subarray(0, 24 + 8000));
    expect(decoder.memory()).toBeUndefined();
  });
});
