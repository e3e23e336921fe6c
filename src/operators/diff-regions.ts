import { map, type OperatorFunction } from 'rxjs';
import { warningChannel } from '../diagnostics.js';
import type { VfioDevice } from '../devices/device.js';
import { diffLayout } from '../devices/protocol/layout-diff.js';
import type { RemapPlan, RequeriedBatch } from '../devices/remap-batch.js';

/**
 * Says what must change so that the mappings follow the layouts.
 *
 * ```
 * map      (01)-----------------     what IS mapped decides, not what was answered last
 * unmap    ----------1----------
 * requery  ------r-------r------     twice the same layouts
 * diff     ------d-------e------     d: nothing changes; e: region 1 is added
 * ```
 *
 * - **Emits** one `RemapPlan` for each batch, at once, with a diff for every candidate: kept, revoked and added areas, rights
 *   lost and gained. A changed size is told on the warning channel (a region's size does not change by itself).
 * - **Drops** nothing. **Completes** and **fails** with its source. **Releases** nothing.
 *
 * @example
 * remapIrq(device).pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device)).subscribe(({ diffs }) => console.log(diffs));
 * @see applyRemap, remapRegions
 */
export function diffRegions(device: VfioDevice): OperatorFunction<RequeriedBatch, RemapPlan> {
  return map((batch) => {
    const diffs = [...batch.current.values()].map((layout) => diffLayout(device.region(layout.index).mapped, layout));
    for (const { index, sizeChange } of diffs) {
      if (sizeChange !== undefined && warningChannel.hasSubscribers) {
        const what = `region ${index} changed its size from ${sizeChange.from} to ${sizeChange.to} bytes: the vendor driver breaks the protocol`;
        warningChannel.publish({ device: device.name, atNs: device.clock.nowNs(), what });
      }
    }
    return { ...batch, diffs };
  });
}
