import { memoryJournal, memoryTransport, migrate, receive } from 'vfio-rx';
import { both, ends, sayingPhases, withEnds } from '../shared/migration.js';
import { interrupted, run } from '../shared/program.js';

/**
 * One device from a `migrate` to a `receive`, here in one process. Between two, connectTo('tcp://...'), listenAt('tcp://...') and
 * fileJournal('...') stand in their places; the commands `vfio-rx migrate` and `vfio-rx receive` do the same.
 *
 * ```
 * source       running -[pre-copy..]-[stop-copy........]-----[stop]--
 * destination  running -[resuming.................]-[stop]-[running]-    never do both run
 * migrate      check----pre-copy------stop-transfer--prepare-commit--moved
 * ```
 */
run(
  withEnds(ends(1), (pairs) => {
    const { connecting, listening } = memoryTransport();
    const received = receive({ devices: pairs, transport: listening, journal: memoryJournal() });
    const sent = migrate({
      devices: pairs.map(({ name, source }) => ({ source, destination: name })),
      transport: connecting,
      journal: memoryJournal(),
      // Gives it up in order: before the decision the source runs again.
      abort: interrupted,
    });
    return both(sent, received).pipe(sayingPhases());
  }),
);
