import type { RemapChannel, RemapSignal } from '../devices/remap-batch.js';
import { nowCall } from '../devices/call.js';

/** A registration that is nobody's: it keeps what was acked and ended. */
export interface TestChannel extends RemapChannel {
  /** The sums that were acked, in their order. */
  readonly acked: readonly bigint[];
  /** The batches that were ended. */
  readonly ended: readonly number[];
}

/** A batch that no device has sent: what an operator of the remap pipeline is tested with. */
export interface TestSignal extends RemapSignal {
  readonly channel: TestChannel;
}

/** The n-th batch of a registration of its own: regions 0 and 1 are declared, one signal was read. */
export function testSignal(batch = 0, more: Partial<Omit<RemapSignal, 'channel' | 'batch'>> & { readonly channel?: Partial<RemapChannel> } = {}): TestSignal {
  const acked: bigint[] = [];
  const ended: number[] = [];
  const { channel, ...rest } = more;
  return {
    because: 'signal',
    sumRead: 1n,
    doubtful: false,
    atNs: 0n,
    ...rest,
    batch,
    channel: {
      device: 'software0',
      profile: 'region-remap',
      page: 0,
      declared: new Set([0, 1]),
      signals: 'doorbell',
      ackForm: 'value',
      ackTimeoutMs: 500,
      ack: (sum) => nowCall(() => {
        if (sum > 0n) acked.push(sum);
        return sum > 0n;
      }),
      end: (ends) => { ended.push(ends); },
      ...channel,
      acked,
      ended,
    },
  };
}
