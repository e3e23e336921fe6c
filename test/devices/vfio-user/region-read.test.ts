import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VfioError } from '../../../src/errors.js';
import { viewOf } from '../../../src/devices/uapi/bytes.js';
import { encodeMessage, Message, readHeader } from '../../../src/devices/vfio-user/messages/header.js';
import { encodeRegionAccess, readRegionPart, type RegionPart } from '../../../src/devices/vfio-user/messages/region-access.js';
import { RegionRead } from '../../../src/devices/vfio-user/region-read.js';

const part = fc.record({ region: fc.nat(8), offset: fc.nat(Number.MAX_SAFE_INTEGER), count: fc.integer({ min: 1, max: 16 }) });

/** What its asker was told of this reply, which stands behind three bytes of something else. */
function told({ region, offset, count }: RegionPart, payload: Uint8Array): unknown {
  const answers: unknown[] = [];
  const failed = (error: unknown): unknown => answers.push((error as VfioError).code);
  const message = encodeMessage({ id: 1, command: 9, kind: 'reply' }, payload);
  const bytes = new Uint8Array([7, 7, 7, ...message]);
  const read = new RegionRead(region, offset, count, 'device', { closed: false, answered: (value) => answers.push(value), failed });
  read.replied(new Message(readHeader(viewOf(message)), bytes, viewOf(bytes), 19, bytes.length, []));
  // The bytes that were answered are not the reader's memory.
  bytes.fill(9);
  return answers[0];
}

describe('RegionRead', () => {
  it('asks for its part, wherever it is written', () => {
    fc.assert(fc.property(part, (asked) => {
      const { region, offset, count } = asked;
      const bytes = new Uint8Array(24).fill(5);
      new RegionRead(region, offset, count, 'device', { closed: false, answered: () => undefined, failed: () => undefined }).encode(viewOf(bytes), 4);
      expect(readRegionPart(bytes.subarray(4, 20))).toEqual(asked);
      expect([bytes[3], bytes[20]]).toEqual([5, 5]);
    }));
  });

  it('takes the reply to it, and no other', () => {
    fc.assert(fc.property(part, fc.uint8Array({ minLength: 16, maxLength: 16 }), (asked, data) => {
      const bytes = data.subarray(0, asked.count);
      expect(told(asked, encodeRegionAccess(asked, bytes))).toEqual(bytes);
      for (const lie of [{ ...asked, region: asked.region + 1 }, { ...asked, offset: asked.offset === 0 ? 2 ** 40 : asked.offset - 1 }, { ...asked, count: asked.count + 1 }]) {
        expect(told(asked, encodeRegionAccess(lie, bytes))).toBe('VFIO_E_PROTOCOL');
      }
      expect(told(asked, encodeRegionAccess(asked, data.subarray(0, asked.count - 1)))).toBe('VFIO_E_PROTOCOL');
    }));
  });
});
