import { timer, type OperatorFunction } from 'rxjs';
import { VfioError } from '../errors.js';
import type { VfioDevice } from '../devices/device.js';
import type { RegionInfo } from '../devices/port.js';
import { layoutIn } from '../devices/protocol/saving-layout.js';
import type { RegionBatch, RequeriedBatch } from '../devices/remap-batch.js';
import { all, callInTurn, steps, type Steps } from '../devices/steps.js';

/** How often, and after which pause, a query that failed is asked again. */
export interface RequeryOptions {
  /** How often a failed query is asked again before the batch fails. Default 2. */
  readonly retries?: number;
  /** The pause before each, ms. Default 1. */
  readonly pauseMs?: number;
}

/**
 * Asks the device for the layout of every candidate, anew each time.
 *
 * ```
 * driver   ------r---------------     revokes region 0
 * decode   --a-----------a-------
 * query    --(01)--------(01)----
 * requery  --r-----------s-------     r: both may be mapped; s: only region 1 may
 * ```
 *
 * - **Emits** one `RequeriedBatch` when all candidates have answered.
 * - **Drops** nothing: one batch after the other.
 * - **Completes** with its source.
 * - **Fails** with the error of a query that stays failed (region and errno in it): a failed query is never taken for "unchanged".
 *   Nothing is acked then, and `remapIrq` disables the irq, which frees the driver.
 * - **Releases** nothing.
 *
 * @example
 * remapIrq(device).pipe(decodeRegionBitmap(), requeryRegions(device)).subscribe(({ current }) => console.log(current.get(0)?.areas));
 * @see diffRegions, remapRegions
 */
export function requeryRegions(device: VfioDevice, options: RequeryOptions = {}): OperatorFunction<RegionBatch, RequeriedBatch> {
  const { retries = 2, pauseMs = 1 } = options;
  function* query(index: number): Steps<RegionInfo> {
    for (let left = retries; ; left -= 1) {
      try {
        return (yield device.port.regionInfo(index)) as RegionInfo;
      } catch (error) {
        if (left <= 0 || isFinal(error)) throw error;
      }
      yield timer(pauseMs, device.clock.scheduler);
    }
  }
  // Where no irq tells of layouts an answer may hold both, and device_state says which of them counts.
  const now = ({ channel }: RegionBatch, info: RegionInfo): RegionInfo => (channel.profile === 'saving-layout' ? layoutIn(info, device.currentState.state) : info);
  function* requery(batch: RegionBatch): Steps<RequeriedBatch> {
    const infos = (yield all(batch.candidates, (index) => steps(() => query(index)))) as readonly RegionInfo[];
    return { ...batch, current: new Map(infos.map((info) => [info.index, now(batch, info)])) };
  }
  return callInTurn((batch) => steps(() => requery(batch)));
}

/** Asking again is no help where there is nobody left to answer. */
function isFinal(error: unknown): boolean {
  return VfioError.is(error) && (error.code === 'VFIO_E_CLOSED' || error.code === 'VFIO_E_NO_DEVICE');
}
