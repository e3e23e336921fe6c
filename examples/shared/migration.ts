import { catchError, concat, defer, EMPTY, ignoreElements, merge, takeUntil, tap, throwError, type MonoTypeOperatorFunction, type Observable } from 'rxjs';
import { remapIrq, remapRegions, VfioError, type DeviceAddress, type MigrationEvent, type SoftwareDevice, type VfioDevice } from 'vfio-rx';
import { addressOf, misused, parsed, sayingStates, withDevices } from './program.js';
import { filled } from './software.js';

/** What the examples of migration have in common: both ends are in one process. */

/** So many devices at each end: those of `--device` and `--to`, or software ones. */
export interface Ends {
  readonly sources: readonly DeviceAddress[];
  readonly destinations: readonly DeviceAddress[];
}

/** Reads the command line: `--device` for each source, `--to` for each destination, in the same order. */
export function ends(count: number, software: (name: string) => SoftwareDevice = filled): Ends {
  const { device = [], to = [] } = parsed({ options: { device: { type: 'string', multiple: true }, to: { type: 'string', multiple: true } } }).values;
  if (device.length !== to.length) misused('each --device needs a --to: where it goes');
  if (device.length > count) misused(`this example takes ${count === 1 ? 'one device' : `at most ${count} devices`}`);
  const addresses = (names: readonly string[], side: string): readonly DeviceAddress[] =>
    Array.from({ length: names.length || count }, (_, n) => addressOf(names[n], ({ name = `${side}${n}` }) => software(name)));
  return { sources: addresses(device, 'vf'), destinations: addresses(to, 'to') };
}

/** One device at both ends, and its name in between. */
export interface Pair {
  readonly name: string;
  readonly source: VfioDevice;
  readonly destination: VfioDevice;
}

/** Opens the devices of both ends for the time of `body`, serves what their drivers demand meanwhile, and says in which states they are given back. */
export function withEnds<T>({ sources, destinations }: Ends, body: (pairs: readonly Pair[]) => Observable<T>): Observable<T> {
  return withDevices([...sources, ...destinations], (devices) => {
    const pairs = sources.flatMap((_, n) => {
      const [source, destination] = [devices[n], devices[sources.length + n]];
      return source === undefined || destination === undefined ? [] : [{ name: `vf${n}`, source, destination }];
    });
    // One that nobody serves refuses the states that save.
    const served = merge(...devices.map((device) => remapIrq(device).pipe(remapRegions(device), ignoreElements())));
    return body(pairs).pipe(sayingStates(...devices), takeUntil(served));
  });
}

/** The events of the source. It ends when both ends have ended, as the source did; why the destination gave up is said. */
export function both(source: Observable<MigrationEvent>, destination: Observable<MigrationEvent>): Observable<MigrationEvent> {
  return defer(() => {
    let failed: { readonly error: unknown } | undefined;
    const received = destination.pipe(ignoreElements(), catchError((error: unknown) => {
      console.log(`destination: ${VfioError.is(error) ? error.code : String(error)}`);
      return EMPTY;
    }));
    const sent = source.pipe(catchError((error: unknown) => {
      failed = { error };
      return EMPTY;
    }));
    return concat(merge(received, sent), defer(() => (failed === undefined ? EMPTY : throwError(() => failed?.error))));
  });
}

/** Says each phase, and where the devices of the source are then. */
export function sayingPhases(): MonoTypeOperatorFunction<MigrationEvent> {
  let last: string | undefined;
  return tap((event) => {
    const line = `${event.phase}: ${event.devices.map(({ state }) => state).join(', ')}`;
    if (line !== last) console.log(line);
    last = line;
    if (event.phase !== 'moved') return;
    const bytes = event.devices.reduce((sum, one) => sum + one.bytes, 0n);
    console.log(`${bytes} bytes, and nothing ran for ${(Number(event.downtimeNs) / 1e6).toFixed(1)} ms`);
  });
}
