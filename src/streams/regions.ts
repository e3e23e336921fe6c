import type { Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Layouts } from '../devices/regions.js';

/**
 * The layouts of all regions.
 *
 * ```
 * signal    -----1--------1--     region 0 is revoked, then offered again
 * unmap     -----0-----------
 * map       (01)----------0--
 * regions   a----b--------a--
 * ```
 *
 * - **Emits** the current layouts at once, then once for each batch that changed one, after the mappings follow it.
 * - **Drops** batches that changed nothing. **Completes** when the device is closed. **Fails** never. **Releases** nothing.
 *
 * @example
 * regions(device).subscribe((layouts) => console.log(layouts.get(0)?.areas));
 * @see remapRegions
 */
export function regions(device: VfioDevice): Observable<Layouts> {
  return device.layouts;
}
