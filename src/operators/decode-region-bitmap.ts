import { map, type OperatorFunction } from 'rxjs';
import { warningChannel } from '../diagnostics.js';
import { namedRegions, undeclaredForCertain } from '../devices/protocol/decode.js';
import type { RegionBatch, RemapSignal } from '../devices/remap-batch.js';

/**
 * Says which regions a signal may be about.
 *
 * ```
 * signal   --1-------3---        sums, as read; regions 0 to 2 are declared
 * bitmap   --a-------b---        a: region 0; b: regions 0 and 1, since 2^2 does not fit into 3
 * doorbell --c-------c---        c: every declared region of the page
 * ```
 *
 * Sound by construction: it may name a region that did not change, never miss one that did. Counts add, they do not OR, so a
 * bit of a count proves nothing; what does not fit into the count was not signalled. In `doorbell` and `rfc-v4`, and in every
 * batch that is not about a count (`because`), it names every declared region.
 *
 * - **Emits** one `RegionBatch` for each signal, at once. A count that holds something undeclared for certain is told on the warning channel.
 * - **Drops** nothing. **Completes** and **fails** with its source. **Releases** nothing.
 *
 * @example
 * remapIrq(device).pipe(decodeRegionBitmap()).subscribe(({ candidates }) => console.log([...candidates]));
 * @see requeryRegions, remapRegions
 */
export function decodeRegionBitmap(): OperatorFunction<RemapSignal, RegionBatch> {
  return map((signal) => {
    const { channel, because, sumRead, atNs } = signal;
    if (warningChannel.hasSubscribers && undeclaredForCertain(channel, because, sumRead)) {
      const what = `a count of ${sumRead} on page ${channel.page} holds a signal for a region that was not declared: the vendor driver breaks the protocol`;
      warningChannel.publish({ device: channel.device, atNs, what });
    }
    return { ...signal, candidates: namedRegions(channel, because, sumRead) };
  });
}
