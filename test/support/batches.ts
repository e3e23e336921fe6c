import { of, Subject } from 'rxjs';
import type { VfioDevice } from '../../src/devices/device.js';
import type { AppliedRemap, RegionBatch, RemapChannel, RemapPlan, RemapSignal, RequeriedBatch } from '../../src/devices/remap-batch.js';
import { diffLayout } from '../../src/devices/protocol/layout-diff.js';
import { now } from './devices.js';

/** A channel that is nobody's: it tells what is acked and ended. */
export interface TestChannel extends RemapChannel {
  readonly acks: Subject<string>;
  readonly ended: Subject<string>;
}

export function testChannel(more: Partial<RemapChannel> = {}): TestChannel {
  const acks = new Subject<string>();
  const ended = new Subject<string>();
  return {
    device: 'software0',
    profile: 'region-remap',
    page: 0,
    declared: new Set([0, 1]),
    signals: 'doorbell',
    ackForm: 'value',
    ackTimeoutMs: 500,
    ack: (sum) => {
      if (sum > 0n) acks.next(`${sum}`);
      return of(sum > 0n);
    },
    end: (batch) => ended.next(`${batch}`),
    ...more,
    acks,
    ended,
  };
}

export function signalOf(channel: RemapChannel, sumRead = 1n, more: Partial<RemapSignal> = {}): RemapSignal {
  return { channel, batch: 0, because: sumRead === 0n ? 'registered' : 'signal', sumRead, doubtful: false, atNs: 0n, ...more };
}

export function batchOf(channel: RemapChannel, more: Partial<RegionBatch> = {}): RegionBatch {
  return { ...signalOf(channel), candidates: channel.declared, ...more };
}

/** The layouts as the device answers at this moment. */
export function requeriedOf(device: VfioDevice, channel: RemapChannel): RequeriedBatch {
  const batch = batchOf(channel);
  return { ...batch, current: new Map([...batch.candidates].map((index) => [index, now(device.port.regionInfo(index))])) };
}

export function planOf(device: VfioDevice, channel: RemapChannel): RemapPlan {
  const requeried = requeriedOf(device, channel);
  return { ...requeried, diffs: [...requeried.current.values()].map((layout) => diffLayout(device.region(layout.index).mapped, layout)) };
}

export function appliedOf(channel: RemapChannel, sumRead: bigint, more: Partial<AppliedRemap> = {}): AppliedRemap {
  return { ...signalOf(channel, sumRead), candidates: channel.declared, current: new Map(), diffs: [], notMapped: [], ...more };
}
