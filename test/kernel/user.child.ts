import { concat, concatMap, ignoreElements, lastValueFrom, NEVER, of, repeat, tap, type MonoTypeOperatorFunction } from 'rxjs';
import { openDevice } from '../../src/devices/open.js';
import type { DataChannel } from '../../src/devices/port.js';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';

/**
 * A user that is killed: opens the device, serves its demands, and drives device_state to and fro for ever. With `hold`
 * it keeps the first batch that the vendor driver asks for, so that its write of device_state stays blocked.
 *
 * It says on stdout where it is: `opening` when it begins to open, `serving` when the first batch is over, `holding` when
 * it keeps one.
 */
const [uuid = '', mode = 'serve'] = process.argv.slice(2);
const say = (where: string) => process.stdout.write(`${where}\n`);

const closed = (data: DataChannel | undefined) => (data === undefined ? concat() : data.close().pipe(ignoreElements()));

const held: MonoTypeOperatorFunction<RemapSignal> = concatMap((batch) => {
  if (mode !== 'hold' || batch.because !== 'signal') return of(batch);
  say('holding');
  return NEVER;
});

say('opening');
openDevice(uuid)
  .pipe(
    concatMap((device) => {
      const rounds = concat(
        transition(device, 'pre-copy').pipe(concatMap(({ data }) => closed(data))),
        transition(device, 'running'),
      ).pipe(ignoreElements(), repeat());
      let first = true;
      return remapIrq(device).pipe(
        held,
        remapRegions(device),
        tap(() => {
          if (!first) return;
          first = false;
          say('serving');
          lastValueFrom(rounds).catch((error: unknown) => {
            console.error(error);
            process.exitCode = 1;
          });
        }),
      );
    }),
  )
  .subscribe({ error: (error: unknown) => console.error(error) });
