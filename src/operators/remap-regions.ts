import { pipe, type OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Remap, RemapSignal } from '../devices/remap-batch.js';
import { acknowledge } from './acknowledge.js';
import { applyRemap, type ApplyOptions } from './apply-remap.js';
import { decodeRegionBitmap } from './decode-region-bitmap.js';
import { diffRegions } from './diff-regions.js';
import { requeryRegions, type RequeryOptions } from './requery-regions.js';

/** The options of all five steps. */
export interface RemapOptions extends RequeryOptions, ApplyOptions {}

/**
 * The whole answer to a remap demand: decode, re-query, diff, apply, ack, in a row.
 *
 * ```
 * signal   ------1--------1----     region 0 is revoked, then offered again
 * query    (0101)(01)-----(01)-     the first two are remapIrq's, before it registers
 * unmap    ------0-------------
 * map      (01)-----------0----
 * ack      ------1--------1----
 * remap    r-----s--------t----
 * ```
 *
 * - **Emits** one `Remap` for each batch. **Drops** nothing. **Completes** with its source.
 * - **Fails** as its steps do; the batch is then not acked, and `remapIrq` disables the irq.
 * - **Releases** what its steps do.
 *
 * @example
 * remapIrq(device).pipe(remapRegions(device)).subscribe();
 * @see decodeRegionBitmap, requeryRegions, diffRegions, applyRemap, acknowledge
 */
export function remapRegions(device: VfioDevice, options: RemapOptions = {}): OperatorFunction<RemapSignal, Remap> {
  return pipe(decodeRegionBitmap(), requeryRegions(device, options), diffRegions(device), applyRemap(device, options), acknowledge(device));
}
