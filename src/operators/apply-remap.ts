import { defer, finalize, merge, Subscription, type OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Call } from '../devices/port.js';
import type { AppliedRemap, RemapPlan } from '../devices/remap-batch.js';
import type { NotMapped } from '../devices/regions.js';
import { all, callInTurn, steps, type Steps } from '../devices/steps.js';

/** What `applyRemap` grants to holders. */
export interface ApplyOptions {
  /** How long a holder may take to let go of a revoked area, ms. Default: half of the driver's ack timeout, or 100. */
  readonly holderBudgetMs?: number;
}

const defaultBudgetMs = 100;

/**
 * Makes the mappings follow the layouts.
 *
 * ```
 * plan     --d---------e-----     d: region 0 is revoked; e: it is offered again
 * holder   --a---l-----g-----     asked to let go, has let go, gets it back
 * unmap    ------0-----------
 * map      0-----------0-----     the first by mapRegion, before all this
 * apply    ------a-----b-----
 * ```
 *
 * In this order for all regions: accessors trap, holders let go, revoked areas are unmapped; then added areas are mapped,
 * accessors use them. Holders get them when the batch has gone on: taking back holds up no ack, and ends with the next batch.
 *
 * - **Emits** one `AppliedRemap` when all is done; an area that could not be mapped stays trapped and stands in `notMapped`.
 * - **Drops** nothing: one batch after the other.
 * - **Completes** with its source.
 * - **Fails** with VFIO_E_HOLDER when a holder does not let go within its budget, and with what unmapping says. Nothing is acked then.
 * - **Releases** nothing: mappings live until they are revoked or the device is closed.
 *
 * @example
 * remapIrq(device)
 *   .pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), applyRemap(device, { holderBudgetMs: 20 }), acknowledge(device))
 *   .subscribe(({ notMapped }) => console.log(notMapped));
 * @see acknowledge, remapRegions
 */
export function applyRemap(device: VfioDevice, options: ApplyOptions = {}): OperatorFunction<RemapPlan, AppliedRemap> {
  const budgetMs = ({ channel: { ackTimeoutMs } }: RemapPlan): number => options.holderBudgetMs ?? (ackTimeoutMs === undefined ? defaultBudgetMs : ackTimeoutMs / 2);
  return (source) =>
    defer(() => {
      let offers = Subscription.EMPTY;
      const apply = (plan: RemapPlan): Call<AppliedRemap> => {
        offers.unsubscribe();
        return steps(() => follow(device, plan, budgetMs(plan)));
      };
      // Only when the steps behind have had the batch: who takes an area back must not hold up the ack.
      const offer = (plan: RemapPlan): void => {
        offers = offerAll(device, plan, budgetMs(plan));
      };
      return source.pipe(callInTurn(apply, offer), finalize(() => offers.unsubscribe()));
    });
}

/** Everything goes before anything comes: an area may move from one region to another. */
function* follow(device: VfioDevice, plan: RemapPlan, budgetMs: number): Steps<AppliedRemap> {
  const { diffs } = plan;
  // All at once: every holder's budget begins now, whatever the number of regions.
  yield all(diffs.filter(({ revoked }) => revoked.length > 0), ({ index, revoked }) => device.region(index).revoke(revoked, budgetMs));
  for (const { index } of diffs) device.region(index).want();
  const notMapped: NotMapped[] = [];
  for (const { index, added } of diffs) {
    const region = device.region(index);
    if (added.length > 0 || region.wantsDma) notMapped.push(...((yield region.attach(added)) as readonly NotMapped[]));
  }
  device.settle(plan.current.values());
  return { ...plan, notMapped };
}

/** Goes on beside the pipeline, and ends when the next batch begins or the pipeline does. */
function offerAll(device: VfioDevice, { diffs }: RemapPlan, budgetMs: number): Subscription {
  const holding = diffs.map(({ index }) => device.region(index)).filter(({ hasHolders }) => hasHolders);
  if (holding.length === 0) return Subscription.EMPTY;
  return merge(...holding.map((region) => region.offer(budgetMs))).subscribe({ error: () => undefined });
}
