import { concatMap, forkJoin, last, tap } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, resolve } from 'vfio-rx';
import { ends, withEnds } from '../shared/migration.js';
import { interrupted, run } from '../shared/program.js';

/**
 * The connection is lost when COMMIT is on its way: nobody runs, and both ends say so. A new connection ends it, also where the
 * process of the source has died meanwhile: its journal says what was decided.
 *
 * ```
 * source       --commit--x--in-doubt          here its process dies
 * destination  ----------x--in-doubt---moved
 * resolve      ----------------------?-moved    a new process of the source, with the old one's journal
 * ```
 */
run(
  withEnds(ends(1), (pairs) => {
    const wire = memoryTransport({ latencyMs: 5 });
    const journal = memoryJournal();
    const states = (): string => pairs.map(({ source, destination }) => `the source's device is in ${source.currentState.state}, the destination's in ${destination.currentState.state}`).join('; ');

    const received = receive({ devices: pairs, transport: wire.listening, journal: memoryJournal(), abort: interrupted });
    const sent = migrate({ devices: pairs.map(({ name, source }) => ({ source, destination: name })), transport: wire.connecting, journal, abort: interrupted }).pipe(
      tap(({ phase }) => {
        // COMMIT has been written, and does not arrive.
        if (phase === 'commit') setTimeout(() => { wire.cut(); }, 1);
      }),
    );
    return forkJoin([sent.pipe(last()), received.pipe(last())]).pipe(
      concatMap(([atSource, atDestination]) => {
        console.log(`source: ${atSource.phase}, destination: ${atDestination.phase}; ${states()}`);
        if (atDestination.phase !== 'in-doubt') throw new Error('the cut came too late');
        // It listens before it is asked.
        return forkJoin([atDestination.resolve(wire.listening), resolve({ journal, transport: wire.connecting })]);
      }),
      tap(([destination, source]) => console.log(`source, started again: ${source}, destination: ${destination}; ${states()}`)),
    );
  }),
);
