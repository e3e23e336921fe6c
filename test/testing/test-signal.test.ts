import { describe, expect, it } from 'vitest';
import { testSignal } from '../../src/testing/index.js';
import { now } from '../support/devices.js';

describe('testSignal', () => {
  it('is a batch with a registration of its own, which keeps what was acked and ended', () => {
    const [one, other] = [testSignal(3), testSignal(4, { sumRead: 2n, channel: { signals: 'bitmap' } })];
    expect([one.batch, one.sumRead, other.batch, other.sumRead, other.channel.signals]).toEqual([3, 1n, 4, 2n, 'bitmap']);
    expect([now(one.channel.ack(2n)), now(one.channel.ack(0n))]).toEqual([true, false]);
    one.channel.end(3);
    expect([one.channel.acked, one.channel.ended, other.channel.acked, other.channel.ended]).toEqual([[2n], [3], [], []]);
  });
});
