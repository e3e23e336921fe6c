import { concatMap, map, Observable, retry, throwError, timer, type OperatorFunction } from 'rxjs';
import { VfioError } from '../errors.js';
import type { VfioDevice } from '../devices/device.js';
import type { RegionInfo } from '../devices/port.js';
import { layoutIn } from '../devices/protocol/saving-layout.js';
import type { RegionBatch, RequeriedBatch } from '../devices/remap-batch.js';

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
  const query = (index: number) =>
    device.port.regionInfo(index).pipe(
      retry({ count: retries, delay: (error: unknown) => (isFinal(error) ? throwError(() => error) : timer(pauseMs, device.clock.scheduler)) }),
    );
  // Where no irq tells of layouts an answer may hold both, and device_state says which of them counts.
  const now = ({ channel }: RegionBatch, info: RegionInfo): RegionInfo => (channel.profile === 'saving-layout' ? layoutIn(info, device.currentState.state) : info);
  return concatMap((batch: RegionBatch) => all(batch.candidates, query).pipe(map((infos): RequeriedBatch => ({ ...batch, current: new Map(infos.map((info) => [info.index, now(batch, info)])) }))));
}

/**
 * One query for each candidate, all at once; one list when all have answered. By hand, since a driver waits for it: with 64 regions
 * `mergeMap` and `toArray` took longer than the queries.
 */
function all(candidates: ReadonlySet<number>, query: (index: number) => Observable<RegionInfo>): Observable<readonly RegionInfo[]> {
  return new Observable((subscriber) => {
    const infos: RegionInfo[] = [];
    let left = candidates.size;
    const answered = (): void => {
      if (left > 0) return;
      subscriber.next(infos);
      subscriber.complete();
    };
    for (const index of candidates) {
      if (subscriber.closed) return;
      const asked = query(index).subscribe({
        next: (info) => infos.push(info),
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          left -= 1;
          answered();
        },
      });
      if (!asked.closed) subscriber.add(asked);
    }
    if (candidates.size === 0) answered();
  });
}

/** Asking again is no help where there is nobody left to answer. */
function isFinal(error: unknown): boolean {
  return VfioError.is(error) && (error.code === 'VFIO_E_CLOSED' || error.code === 'VFIO_E_NO_DEVICE');
}
