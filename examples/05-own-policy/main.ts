import { map, scan, tap, type OperatorFunction } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive, type RoundReport, type RoundVerdict } from 'vfio-rx';
import { both, ends, sayingPhases, withEnds } from '../shared/migration.js';
import { interrupted, run } from '../shared/program.js';

/**
 * When to stop the devices is yours to say: a policy is any operator from reports to verdicts, one for each round of PRE_COPY.
 *
 * ```
 * rounds           --a------b------c--    c: nothing more was sent than at b
 * untilNothingNew  --again--again--switch-over
 * ```
 */
const untilNothingNew: OperatorFunction<RoundReport, RoundVerdict> = (rounds) =>
  rounds.pipe(
    scan((before, { sentBytes }) => ({ sentBytes, isNew: sentBytes > before.sentBytes }), { sentBytes: 0n, isNew: true }),
    map(({ isNew }): RoundVerdict => (isNew ? 'again' : 'switch-over')),
    tap((verdict) => console.log(`policy: ${verdict}`)),
  );

run(
  withEnds(ends(2), (pairs) => {
    const { connecting, listening } = memoryTransport();
    const received = receive({ devices: pairs, transport: listening, journal: memoryJournal() });
    const sent = migrate({
      devices: pairs.map(({ name, source }) => ({ source, destination: name })),
      transport: connecting,
      journal: memoryJournal(),
      policy: untilNothingNew,
      abort: interrupted,
    });
    return both(sent, received).pipe(sayingPhases());
  }),
);
