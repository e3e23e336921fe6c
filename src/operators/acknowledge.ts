import type { OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { changesNothing } from '../devices/protocol/layout-diff.js';
import type { AppliedRemap, Remap } from '../devices/remap-batch.js';
import { callInTurn, steps, type Steps } from '../devices/steps.js';
import { remapChannel } from '../diagnostics.js';

const nsPerMs = 1_000_000n;

/**
 * Tells the vendor driver that its demand is served, and ends the batch.
 *
 * ```
 * applied      --a------b----     a: 2 was read; b: a full batch, nothing was read
 * ack          --2-----------
 * acknowledge  --r------s----
 * ended        --a------b----     remapIrq arms the irq again
 * ```
 *
 * In form `value` the ack is the sum of what was read: the driver sees from the number which of its signals are covered, so
 * that a late or coalesced ack never releases the wrong wait. The forms of 2020 carry no number; in form `none` nothing is
 * written, and the batch ends all the same. A doubtful batch is acked only where it found a change: else it was an echo.
 *
 * - **Emits** one `Remap` for each batch, with the time that serving took and what was left of the driver's timeout.
 * - **Drops** nothing.
 * - **Completes** with its source.
 * - **Fails** with its source, or with what the write of the ack says.
 * - **Releases** the batch: after the emission `remapIrq` arms the irq again.
 *
 * @example
 * remapIrq(device)
 *   .pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), applyRemap(device), acknowledge(device))
 *   .subscribe(({ servedNs, headroomNs }) => console.log(servedNs, headroomNs));
 * @see remapIrq, remapRegions
 */
export function acknowledge(device: VfioDevice): OperatorFunction<AppliedRemap, Remap> {
  function* ack(applied: AppliedRemap): Steps<Remap> {
    const { channel, sumRead, atNs, doubtful, diffs } = applied;
    const earned = doubtful && diffs.every(changesNothing) ? 0n : sumRead;
    const acked = (yield channel.ack(earned)) as boolean;
    const servedNs = device.clock.nowNs() - atNs;
    const timeoutNs = channel.ackTimeoutMs === undefined || earned === 0n ? undefined : BigInt(channel.ackTimeoutMs) * nsPerMs;
    const headroomNs = timeoutNs === undefined ? undefined : timeoutNs - servedNs;
    if (remapChannel.hasSubscribers) remapChannel.publish({ device: device.name, atNs: atNs + servedNs, page: channel.page, batch: applied.batch, because: applied.because, acked, servedNs, headroomNs });
    return { ...applied, acked, servedNs, headroomNs };
  }
  return callInTurn((applied) => steps(() => ack(applied)), ({ channel, batch }) => channel.end(batch));
}
