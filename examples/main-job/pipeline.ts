import { concatMap, identity, map, pipe, tap, type OperatorFunction } from 'rxjs';
import {
  acknowledge, applyRemap, decodeRegionBitmap, diffRegions, requeryRegions,
  type AppliedRemap, type Remap, type RemapPlan, type RemapSignal, type VfioDevice,
} from 'vfio-rx';
import type { Sabotage } from './options.js';

/**
 * How the job answers a demand: the five operators of `remapRegions` in a row, with one of our own after the third, which
 * shows the plan before it is carried out. A sabotage puts an operator in that the device must not let pass unseen.
 */
export function pipeline(device: VfioDevice, show: (plan: RemapPlan) => void, holderBudgetMs: number, sabotage?: Sabotage): OperatorFunction<RemapSignal, Remap> {
  return pipe(
    decodeRegionBitmap(),
    requeryRegions(device),
    diffRegions(device),
    tap(show),
    sabotage === 'early-ack' ? ackBeforeItsTime() : identity,
    applyRemap(device, { holderBudgetMs }),
    sabotage === 'skip-ack' ? endWithoutAck() : acknowledge(device),
  );
}

/** The driver goes on while the areas are still mapped. */
function ackBeforeItsTime(): OperatorFunction<RemapPlan, RemapPlan> {
  return concatMap((plan) => plan.channel.ack(plan.sumRead).pipe(map(() => ({ ...plan, sumRead: 0n }))));
}

/** Ends the batch and says nothing to the driver, which waits until its own deadline. */
function endWithoutAck(): OperatorFunction<AppliedRemap, Remap> {
  return pipe(
    map((applied): Remap => ({ ...applied, acked: false, servedNs: 0n, headroomNs: undefined })),
    tap(({ channel, batch }) => channel.end(batch)),
  );
}
