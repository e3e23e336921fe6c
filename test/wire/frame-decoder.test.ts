import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameDecoder } from '../../src/wire/frame-decoder.js';
import { encodeHeader, headerBytes, mostDataBytes } from '../../src/wire/frame.js';
import type { Message } from '../../src/wire/message.js';
import { cut, decoded, encoded, message } from './arbitraries.js';

const messages = fc.array(message, { minLength: 1, maxLength: 6 });
const places = fc.array(fc.nat(), { maxLength: 12 });
const stream = { code: 'VFIO_E_STREAM' };

function data(device: number, ...bytes: readonly number[]): Message {
  return { type: 'data', device, bytes: Buffer.from(bytes), crc: crc32(Buffer.from(bytes)) };
}

describe('a migration stream', () => {
  it('says the same however its bytes are cut', () => {
    fc.assert(fc.property(messages, places, (said, at) => {
      const bytes = encoded(said);
      expect(decoded(cut(bytes, at))).toEqual({ messages: said, error: undefined });
    }));
    const said = [data(1, 1, 2, 3), { type: 'commit' } as const];
    expect(decoded(Array.from(encoded(said), (byte) => Uint8Array.of(byte)))).toEqual({ messages: said, error: undefined });
  });

  it('is known to be truncated at every byte that is not between two frames', () => {
    fc.assert(fc.property(messages, fc.nat(), places, (said, length, at) => {
      const bytes = encoded(said);
      const short = bytes.subarray(0, length % bytes.length);
      const ends = said.map((_, n) => encoded(said.slice(0, n)).length);
      const { messages: heard, error } = decoded(cut(short, at));
      expect(said.slice(0, heard.length)).toEqual(heard);
      if (ends.includes(short.length)) expect(error).toBeUndefined();
      else expect(error).toMatchObject(stream);
    }));
  });

  it('is known to be corrupted, whichever bit is another, after the same good messages in any split', () => {
    fc.assert(fc.property(messages, fc.nat(), fc.nat({ max: 7 }), places, (said, where, bit, at) => {
      const bytes = encoded(said);
      const place = where % bytes.length;
      bytes[place] = (bytes[place] ?? 0) ^ (1 << bit);
      const { messages: heard, error } = decoded(cut(bytes, at), false);
      expect(error).toMatchObject(stream);
      const good = said.filter((_, n) => encoded(said.slice(0, n + 1)).length <= place);
      expect(heard).toEqual(good);
    }));
  });

  it('is known to lack a frame, to have one twice, or two in each other\'s place', () => {
    const encodeAll = (said: readonly Message[]) => said.map((_, n) => encoded(said.slice(0, n + 1)).subarray(encoded(said.slice(0, n)).length));
    fc.assert(fc.property(fc.array(message, { minLength: 3, maxLength: 6 }), fc.nat(), fc.constantFrom('lost', 'doubled', 'swapped'), (said, where, how) => {
      const frames = [...encodeAll(said)];
      const n = where % (frames.length - 1);
      const [one = new Uint8Array(), two = new Uint8Array()] = frames.slice(n, n + 2);
      if (how === 'lost') frames.splice(n, 1);
      else frames.splice(n, 2, ...(how === 'doubled' ? [one, one, two] : [two, one]));
      expect(decoded(frames, false).error).toMatchObject(stream);
    }));
  });

  it('takes any bytes at all for a typed error, or for nothing yet', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 5 }), (pieces) => {
      const { messages: heard, error } = decoded(pieces, false);
      expect(heard).toEqual([]);
      if (pieces.reduce((sum, { length }) => sum + length, 0) >= headerBytes) expect(error).toMatchObject(stream);
    }));
  });

  it('has room for much that comes, and leaves it there; small frames are read ahead, with the beginning of a large one', () => {
    const decoder = new FrameDecoder();
    const large = data(0, ...Array.from({ length: 20_000 }, (_, n) => n & 0xff));
    const bytes = encoded([data(0, 1, 2, 3), { type: 'commit' }, large, data(0, 4)]);
    const payloads: Uint8Array[] = [];
    const reads: (number | 'ahead')[] = [];
    let into: Uint8Array | undefined;
    for (let at = 0; at < bytes.length; ) {
      const { room } = decoder;
      const piece = bytes.subarray(at, at + (room?.length ?? 4096));
      at += piece.length;
      reads.push(room?.length ?? 'ahead');
      room?.set(piece);
      into ??= room;
      decoder.push(room ?? piece, ({ type, payload }) => {
        if (type === 'data') payloads.push(payload);
      });
    }
    const ahead = 4096 - (headerBytes + 3) - headerBytes - headerBytes;
    expect(reads).toEqual(['ahead', 20_000 - ahead, 'ahead']);
    expect(payloads.map((payload) => Buffer.from(payload))).toEqual([data(0, 1, 2, 3), large, data(0, 4)].map((one) => ('bytes' in one ? one.bytes : undefined)));
    expect(payloads[1]?.buffer).toBe(into?.buffer);
  });

  it('reads what has come for its checksum before all is there, and finds a bit that is wrong in any part of it', () => {
    const largeBytes = Uint8Array.from({ length: 20_000 }, (_, n) => n & 0xff);
    const bytes = encoded([data(0, ...largeBytes), { type: 'commit' }]);
    const heard = (wrong: number | undefined): unknown => {
      const decoder = new FrameDecoder();
      const payloads: Buffer[] = [];
      const rest = bytes.slice(headerBytes, headerBytes + 20_000);
      if (wrong !== undefined) rest[wrong] = (rest[wrong] ?? 0) ^ 1;
      try {
        decoder.push(bytes.slice(0, headerBytes), () => undefined);
        const room = decoder.room ?? new Uint8Array();
        for (const [from, to] of [[0, 7000], [7000, 7001], [7001, 19_999], [19_999, 20_000]] as const) {
          room.set(rest.subarray(from, to), from);
          if (to < 20_000) decoder.came(to);
        }
        decoder.push(room, ({ payload }) => payloads.push(Buffer.from(payload)));
        decoder.push(bytes.subarray(headerBytes + 20_000), ({ type }) => payloads.push(Buffer.from(type)));
      } catch (error) {
        return error;
      }
      return payloads;
    };
    expect(heard(undefined)).toEqual([Buffer.from(largeBytes), Buffer.from('commit')]);
    for (const wrong of [0, 7000, 19_998, 19_999]) expect(heard(wrong)).toMatchObject(stream);
  });

  it('makes no room for what a header may not announce', () => {
    const header = encodeHeader({ type: 'data', device: 0, payload: new Uint8Array(mostDataBytes) }, 0);
    const before = process.memoryUsage().arrayBuffers;
    // The length alone would be seen by the checksum; a peer that reckons it anew is seen by the limit.
    const forged = encodeHeader({ type: 'commit', device: 0, payload: new Uint8Array(0) }, 0);
    new DataView(forged.buffer).setUint32(0, 0xffff_ffff, true);
    expect(() => { new FrameDecoder().push(forged, () => undefined); }).toThrow('wrong checksum');
    expect(() => encodeHeader({ type: 'data', device: 0, payload: new Uint8Array(mostDataBytes + 1) }, 0)).toThrow('cannot carry');
    expect(() => encodeHeader({ type: 'commit', device: 0, payload: new Uint8Array(1) }, 0)).toThrow('cannot carry');
    const decoder = new FrameDecoder();
    decoder.push(header, () => undefined);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * mostDataBytes);
    expect(() => { decoder.end(); }).toThrow(`${mostDataBytes} bytes before its end`);
  });

  it('stays broken', () => {
    const decoder = new FrameDecoder();
    expect(() => { decoder.push(new Uint8Array(headerBytes), () => undefined); }).toThrow('[VFIO_E_STREAM]');
    expect(() => { decoder.push(encoded([{ type: 'commit' }]), () => undefined); }).toThrow('[VFIO_E_STREAM]');
  });

  it('is copied, once: what is pushed may be used again, and so may a payload that was given back', () => {
    const frames = [[1, 2, 3], [4, 5, 6], [7, 8, 9]].map((bytes) => data(0, ...bytes));
    const bytes = encoded(frames);
    const decoder = new FrameDecoder();
    const heard: Uint8Array[] = [];
    decoder.push(bytes, ({ payload }) => {
      if (heard.length === 1) decoder.giveBack(payload);
      heard.push(payload);
    });
    bytes.fill(0);
    expect(heard.map((payload) => [...payload])).toEqual([[1, 2, 3], [7, 8, 9], [7, 8, 9]]);
  });

  it('keeps few of those that were given back, and none for a payload of another length', () => {
    const decoder = new FrameDecoder();
    const given = Array.from({ length: 30 }, (_, n) => new Uint8Array(3).fill(n));
    for (const payload of [...given, new Uint8Array(4)]) decoder.giveBack(payload);
    const heard = new Set<Uint8Array>();
    decoder.push(encoded(Array.from({ length: 30 }, () => data(0, 1, 2, 3))), ({ payload }) => heard.add(payload));
    expect(given.filter((payload) => heard.has(payload))).toHaveLength(15);
  });
});
