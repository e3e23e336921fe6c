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
export function untilAborted<T>(signal: AbortSignal | undefined, details: VfioErrorDetails): MonoTypeOperatorFunction<T> {
  if (signal === undefined) return identity;
  const aborted = aborts(signal).pipe(
    map((reason): never => {
      throw abortedError(reason, details);
    }),
  );
  return takeUntil(aborted);
}

function abortedError(cause: unknown, { operation, device }: VfioErrorDetails): VfioError {
  return new VfioError('VFIO_E_ABORTED', 'its caller aborted it', { operation, device, cause });
}

/** Throws where the signal is aborted: for work in steps, each of which is done to its end. */
export function throwIfAborted(signal: AbortSignal | undefined, details: VfioErrorDetails): void {
  if (signal?.aborted === true) throw abortedError(signal.reason, details);
}

/** One abort for both ways of asking for it. */
export function eitherAbort(abort: Observable<unknown> | undefined, signal: AbortSignal | undefined): Observable<unknown> {
  return merge(...(abort === undefined ? [] : [abort]), ...(signal === undefined ? [] : [aborts(signal)]));
}
