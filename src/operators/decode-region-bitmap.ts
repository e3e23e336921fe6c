import { map, type OperatorFunction } from 'rxjs';
import type { RegionBatch, RemapSignal } from '../devices/remap-batch.js';

/**
 * Says which regions a signal may be about.
 *
 * ```
 * signal   --1-------3---        counts, as read
 * decode   --a-------b---        both name every declared region of the page
 * ```
 *
 * In form `doorbell` a count says only that something changed. Sound by construction: it may name a region that did not
 * change, never miss one that did (counts add, they do not OR).
 *
 * - **Emits** one `RegionBatch` for each signal, at once.
 * - **Drops** nothing. **Completes** and **fails** with its source. **Releases** nothing.
 *
 * @example
 * remapIrq(device).pipe(decodeRegionBitmap()).subscribe(({ candidates }) => console.log([...candidates]));
 * @see requeryRegions, remapRegions
 */
export function decodeRegionBitmap(): OperatorFunction<RemapSignal, RegionBatch> {
  return map((signal) => ({ ...signal, candidates: signal.channel.declared }));
}
