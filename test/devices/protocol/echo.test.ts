import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { echo, readAfterAck } from '../../../src/devices/protocol/echo.js';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';

describe('readAfterAck', () => {
  it('tells a drained echo, a doubtful one, and a signal', () => {
    expect([undefined, 1n, 2n, 3n, 2n ** 64n - 1n].map(readAfterAck)).toEqual(['drained', 'doubtful', 'signal', 'signal', 'signal']);
  });

  it('takes no signal for an echo, whether or not the driver drains, and whatever it adds', () => {
    fc.assert(fc.property(fc.boolean(), fc.array(fc.bigInt(1n, 64n), { maxLength: 3 }), (drains, adds) => {
      const eventfd = new SoftEventfd();
      eventfd.write(echo);
      if (drains) eventfd.read();
      for (const add of adds) eventfd.add(add);
      const after = readAfterAck(eventfd.read());
      if (adds.length > 0) expect(after).not.toBe('drained');
      // A driver that neither drains nor signals: only a batch that looks can know.
      if (adds.length > 0 && !drains) expect(after).toBe('signal');
      if (adds.length === 0) expect(after).toBe(drains ? 'drained' : 'doubtful');
    }));
  });
});
