import { catchError, EMPTY, merge, Subject, tap, throwError } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, VfioError } from 'vfio-rx';
import { both, ends, sayingPhases, withEnds } from '../shared/migration.js';
import { interrupted, run } from '../shared/program.js';

/**
 * Given up in the middle: the events go on until the source runs again, and only then comes the error.
 *
 * ```
 * abort    -------------x------------
 * source   running-[stop-copy]-[running]
 * migrate  check---transfer---roll-back-#    VFIO_E_ABORTED
 * ```
 */
run(
  withEnds(ends(1), (pairs) => {
    const { connecting, listening } = memoryTransport();
    const abort = new Subject<void>();
    const received = receive({ devices: pairs, transport: listening, journal: memoryJournal() });
    const sent = migrate({ devices: pairs.map(({ name, source }) => ({ source, destination: name })), transport: connecting, journal: memoryJournal(), abort: merge(abort, interrupted) });
    return both(sent, received).pipe(
      sayingPhases(),
      tap(({ phase }) => {
        if (phase === 'transfer') abort.next();
      }),
      // Here it is what was wanted.
      catchError((error: unknown) => {
        if (!VfioError.is(error) || error.code !== 'VFIO_E_ABORTED') return throwError(() => error);
        console.log(`source: ${error.code}`);
        return EMPTY;
      }),
    );
  }),
);
