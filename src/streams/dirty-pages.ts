import { catchError, concatMap, endWith, from, ignoreElements, map, Observable, Subscription, tap, throwError, toArray } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { VfioError } from '../errors.js';
import { disregard, ownedCall } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, IovaRange } from '../devices/port.js';
import { countDirty, reportParts, type DirtyBitmap } from '../devices/protocol/dirty-pages.js';

/** What is watched, and when it is asked for. */
export interface DirtyPagesOptions extends Abortable {
  /** IO addresses that the device may write to: 1 to 256 ranges of whole pages. */
  readonly ranges: readonly IovaRange[];
  /** Each value asks for one report. */
  readonly when: Observable<unknown>;
  /** What one bit stands for, bytes: a power of two. Default 4096. A device that tracks larger pages says more was written than was. */
  readonly pageSize?: number;
}

/** What a device has written by DMA since the last report, or since the start. */
export interface DirtyPages {
  readonly device: string;
  /** When it was asked for, ns. */
  readonly atNs: bigint;
  /** Pages of `pageSize` of all the ranges. */
  readonly pages: number;
  /** For each range in order, in parts of at most 64 GiB (pages of 4 KiB); `dirtyRanges` reads them. */
  readonly bitmaps: readonly DirtyBitmap[];
}

const defaultPageSize = 4096;
/** Bits of all ranges together: bitmaps of 64 MiB. */
const mostPages = 64 * 1024 * 1024 * 8;

/**
 * Which pages a device writes by DMA, by its own log (VFIO_DEVICE_FEATURE_DMA_LOGGING_*), else by that of the IOMMU in front of it, where that has one: it starts at subscribe and stops at unsubscribe.
 *
 * ```
 * driver        -w--w-----ww--------     the device writes to a page
 * when          -----r-r-------r-|
 * dirtyPages    -----a-b-------c-|       a: two pages; b: none; c: two
 * ```
 *
 * - **Emits** one `DirtyPages` for each value of `when`; what is reported is clean again.
 * - **Drops** no page. A value of `when` that comes while a report is outstanding is answered by one more after it, however many they are.
 * - **Completes** with `when`, after the reports that are due, once the log is stopped.
 * - **Fails** with VFIO_E_CLOSED, VFIO_E_UNSUPPORTED (the device keeps no log), VFIO_E_BUSY (it keeps one for somebody else), VFIO_E_RANGE, VFIO_E_LIMIT (too
 *   many pages), with the error of `when`, by `signal` with VFIO_E_ABORTED; with VFIO_E_LOG_LOST where a report failed: take every page for written then.
 * - **Releases** the log, on unsubscribe too.
 *
 * @example
 * dirtyPages(device, { ranges: [{ iova: 0n, size: 1 << 20 }], when: irq(device, { index: 1 }) }).subscribe(({ pages }) => console.log(pages));
 * @see dirtyRanges, savedState
 */
export function dirtyPages(device: VfioDevice, { ranges, when, pageSize = defaultPageSize, signal }: DirtyPagesOptions): Observable<DirtyPages> {
  const reports = new Observable<DirtyPages>((subscriber) => {
    const { dmaLogging } = device.port;
    device.checkOpen('dirtyPages');
    requireFew(device, ranges, pageSize);
    const parts = ranges.flatMap((range) => reportParts(range, pageSize));
    const running = new Subscription();
    let log: 'none' | 'kept' | 'stopped' = 'none';
    /** One call at a time; another report is due after it; `when` has no more. */
    let busy = false;
    let due = false;
    let last = false;

    const during = <T>(call: Call<T>, took: (value: T) => void): void => {
      busy = true;
      running.add(call.subscribe({
        next: took,
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          busy = false;
          goOn();
        },
      }));
    };
    const goOn = (): void => {
      if (busy) return;
      if (log === 'stopped') {
        subscriber.complete();
      } else if (due) {
        due = false;
        during(report(device, parts, pageSize), (pages) => subscriber.next(pages));
      } else if (last) {
        log = 'stopped';
        during(dmaLogging.stop(), () => undefined);
      }
    };
    // A log that starts when nobody wants it any more is stopped again.
    during(ownedCall(() => dmaLogging.start({ ranges, pageSize }), () => disregard(dmaLogging.stop())), () => (log = 'kept'));
    const closed = device.layouts.pipe(ignoreElements(), endWith(undefined), tap(() => device.checkOpen('dirtyPages')));
    running.add(closed.subscribe({ error: (error: unknown) => subscriber.error(error) }));
    running.add(when.subscribe({
      next: () => {
        due = true;
        goOn();
      },
      error: (error: unknown) => subscriber.error(error),
      complete: () => {
        last = true;
        goOn();
      },
    }));
    return () => {
      running.unsubscribe();
      if (log === 'kept') disregard(dmaLogging.stop());
    };
  });
  return reports.pipe(untilAborted(signal, { operation: 'dirtyPages', device: device.name }));
}

function report(device: VfioDevice, parts: readonly IovaRange[], pageSize: number): Call<DirtyPages> {
  const atNs = device.clock.nowNs();
  const one = (part: IovaRange): Call<DirtyBitmap> => device.port.dmaLogging.report({ ...part, pageSize }).pipe(map((bits) => ({ ...part, pageSize, bits })));
  return from(parts).pipe(
    concatMap(one),
    toArray(),
    map((bitmaps) => ({ device: device.name, atNs, pages: bitmaps.reduce((sum, bitmap) => sum + countDirty(bitmap), 0), bitmaps })),
    catchError((error: unknown) => throwError(() => lost(device, error))),
  );
}

function lost(device: VfioDevice, cause: unknown): unknown {
  if (VfioError.is(cause) && cause.code === 'VFIO_E_CLOSED') return cause;
  return new VfioError('VFIO_E_LOG_LOST', 'a report of the log of written pages failed: take every page for written', { operation: 'VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT', device: device.name, cause });
}

function requireFew(device: VfioDevice, ranges: readonly IovaRange[], pageSize: number): void {
  const pages = ranges.reduce((sum, { size }) => sum + size / pageSize, 0);
  if (pages > mostPages) throw new VfioError('VFIO_E_LIMIT', `${pages} pages are more than ${mostPages}: ask for larger pages, or less`, { operation: 'dirtyPages', device: device.name });
}
