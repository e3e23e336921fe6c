import { identity, map, merge, Observable, takeUntil, type MonoTypeOperatorFunction } from 'rxjs';
import { VfioError, type VfioErrorDetails } from './errors.js';

/** Something that takes time, and that a caller may want to end from elsewhere. */
export interface Abortable {
  /** Its abort ends this as unsubscribing does, and says so: VFIO_E_ABORTED, whose cause is the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Emits the reason once the signal is aborted, at once where it is; listens no longer than it is subscribed. */
export function aborts(signal: AbortSignal): Observable<unknown> {
  return new Observable((subscriber) => {
    const abort = (): void => subscriber.next(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    return () => signal.removeEventListener('abort', abort);
  });
}

/**
 * ```
 * source             --a----b----c
 * signal             ---------x
 * untilAborted       --a----b-#     VFIO_E_ABORTED; nothing is begun where the signal is aborted already
 * ```
 */
export function untilAborted<T>(signal: AbortSignal | undefined, { operation, device }: VfioErrorDetails): MonoTypeOperatorFunction<T> {
  if (signal === undefined) return identity;
  const aborted = aborts(signal).pipe(
    map((cause): never => {
      throw new VfioError('VFIO_E_ABORTED', 'its caller aborted it', { operation, device, cause });
    }),
  );
  return takeUntil(aborted);
}

/** One abort for both ways of asking for it. */
export function eitherAbort(abort: Observable<unknown> | undefined, signal: AbortSignal | undefined): Observable<unknown> {
  return merge(...(abort === undefined ? [] : [abort]), ...(signal === undefined ? [] : [aborts(signal)]));
}
