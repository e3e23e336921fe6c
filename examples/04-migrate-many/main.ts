import { defer, tap } from 'rxjs';
import { memoryJournal, memoryTransport, migrate, receive } from 'vfio-rx';
import { recordLanes, renderDiagram } from 'vfio-rx/testing';
import { both, ends, withEnds } from '../shared/migration.js';
import { interrupted, run } from '../shared/program.js';
import { filled } from '../shared/software.js';

/**
 * Several devices together: each state is one that all of them have reached before any goes on.
 *
 * ```
 * vf0  [pre-copy]   -[pre-copy-p2p] -[stop-copy]   -
 * vf1  [pre-copy..] -[pre-copy-p2p.]-[stop-copy]   -
 * vf2  [pre-copy...]-[pre-copy-p2p] -[stop-copy...]-
 * ```
 *
 * What really happened is drawn in the end, from what the library tells on its channels.
 */
run(
  withEnds(ends(3, (name) => filled(name, 5)), (pairs) => {
    const { connecting, listening } = memoryTransport();
    const received = receive({ devices: pairs, transport: listening, journal: memoryJournal() });
    const sent = migrate({ devices: pairs.map(({ name, source }) => ({ source, destination: name })), transport: connecting, journal: memoryJournal(), abort: interrupted });
    return defer(() => {
      const recording = recordLanes(pairs.flatMap(({ source, destination }) => [source.name, destination.name]));
      return both(sent, received).pipe(
        tap({
          next: (event) => {
            if (event.phase === 'moved') console.log(`moved: nothing ran for ${(Number(event.downtimeNs) / 1e6).toFixed(0)} ms`);
          },
          finalize: () => {
            recording.stop();
            console.log(renderDiagram(recording.events, { lanes: ['state'], width: 120 }));
          },
        }),
      );
    });
  }),
);
