import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Tally } from '../../src/wire/tally.js';

describe('a tally', () => {
  it('is the same whatever the chunks, and another where one byte is', () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 5 }), fc.nat(), (chunks, where) => {
      const parts = new Tally();
      for (const chunk of chunks) parts.add(chunk, crc32(chunk));
      const bytes = Uint8Array.from(Buffer.concat(chunks));
      const whole = new Tally();
      whole.add(bytes, crc32(bytes));
      expect(() => { parts.check('vf0', whole.bytes, whole.crc); }).not.toThrow();
      const other = new Tally();
      const changed = bytes.with(where % bytes.length, (bytes[where % bytes.length] ?? 0) ^ 1);
      other.add(changed, crc32(changed));
      expect(() => { parts.check('vf0', other.bytes, other.crc); }).toThrow('checksum is another');
      expect(() => { parts.check('vf0', whole.bytes + 1n, whole.crc); }).toThrow('were sent');
    }));
  });
});
