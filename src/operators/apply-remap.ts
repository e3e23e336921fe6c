import { concat, concatMap, defer, EMPTY, finalize, from, ignoreElements, map, merge, mergeMap, Subscription, tap, toArray, type Observable, type OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { RegionDiff } from '../devices/protocol/layout-diff.js';
import type { AppliedRemap, RemapPlan } from '../devices/remap-batch.js';
import type { NotMapped, Region } from '../devices/regions.js';

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
  return (source) =>
    defer(() => {
      const offers = new Offers();
      const apply = (plan: RemapPlan): Observable<AppliedRemap> => {
        const { ackTimeoutMs } = plan.channel;
        const budgetMs = options.holderBudgetMs ?? (ackTimeoutMs === undefined ? defaultBudgetMs : ackTimeoutMs / 2);
        offers.stop();
        return concat(
          revokeAll(device, plan.diffs, budgetMs),
          defer(() => addAll(device, plan)).pipe(map((notMapped): AppliedRemap => ({ ...plan, notMapped }))),
          // Only now, when the steps behind have had the batch: who takes an area back must not hold up the ack.
          offers.begin(plan.diffs.map((diff) => device.region(diff.index)).filter((region) => region.hasHolders), budgetMs),
        );
      };
      return source.pipe(concatMap(apply), finalize(() => offers.stop()));
    });
}

/** Everything goes before anything comes: an area may move from one region to another. */
function revokeAll(device: VfioDevice, diffs: readonly RegionDiff[], budgetMs: number): Observable<never> {
  return from(diffs.filter((diff) => diff.revoked.length > 0)).pipe(
    // All at once: every holder's budget begins now, whatever the number of regions.
    mergeMap((diff) => device.region(diff.index).revoke(diff.revoked, budgetMs)),
    ignoreElements(),
  );
}

function addAll(device: VfioDevice, plan: RemapPlan): Observable<readonly NotMapped[]> {
  for (const { index } of plan.diffs) device.region(index).want();
  return from(plan.diffs.filter(({ index, added }) => added.length > 0 || device.region(index).wantsDma)).pipe(
    concatMap((diff) => device.region(diff.index).attach(diff.added)),
    toArray(),
    map((lists) => lists.flat()),
    tap(() => device.settle(plan.current.values())),
  );
}

/** What is being offered to holders: goes on beside the pipeline, and ends when the next batch begins or the pipeline does. */
class Offers {
  #running = Subscription.EMPTY;

  /** Begins when subscribed, and completes at once. */
  begin(regions: readonly Region[], budgetMs: number): Observable<never> {
    return defer(() => {
      this.#running = this.#start(regions, budgetMs);
      return EMPTY;
    });
  }

  stop(): void {
    this.#running.unsubscribe();
  }

  #start(regions: readonly Region[], budgetMs: number): Subscription {
    return merge(...regions.map((region) => region.offer(budgetMs))).subscribe({ error: () => undefined });
  }
}
