import { concatMap, concat, ignoreElements, lastValueFrom, repeat, tap } from 'rxjs';
import { openDevice } from '../../src/devices/open.js';
import type { DataChannel } from '../../src/devices/port.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';

/**
 * A user that is killed: opens the device, serves its demands, and drives device_state to and fro for ever.
 * It says `serving` on stdout when the first batch is over.
 */
const [uuid = ''] = process.argv.slice(2);

const closed = (data: DataChannel | undefined) => (data === undefined ? concat() : data.close().pipe(ignoreElements()));

openDevice(uuid)
  .pipe(
    concatMap((device) => {
      const rounds = concat(
        transition(device, 'pre-copy').pipe(concatMap(({ data }) => closed(data))),
        transition(device, 'running'),
      ).pipe(ignoreElements(), repeat());
      let first = true;
      return remapIrq(device).pipe(
        remapRegions(device),
        tap(() => {
          if (!first) return;
          first = false;
          process.stdout.write('serving\n');
          lastValueFrom(rounds).catch((error: unknown) => {
            console.error(error);
            process.exitCode = 1;
          });
        }),
      );
    }),
  )
  .subscribe({ error: (error: unknown) => console.error(error) });
