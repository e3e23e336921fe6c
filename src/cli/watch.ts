import { extname } from 'node:path';
import { asapScheduler, catchError, concat, concatMap, defer, EMPTY, filter, finalize, ignoreElements, map, merge, observeOn, of, take, takeUntil, takeWhile, tap, throwError, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { withDevice } from '../devices/open.js';
import type { State } from '../devices/port.js';
import { traceFile, type TraceFile } from '../devices/replay/trace-file.js';
import { VfioError } from '../errors.js';
import { formatNs } from '../testing/drawing/drawing.js';
import { parseDeviceName } from './device-name.js';
import { parseDevice, type NamedDevice } from './devices.js';
import { LiveLines } from './live-lines.js';
import type { Terminal } from './live-table.js';
import { jsonLine, say, type Screen } from './show.js';
import { emptyRow, inWords, rowAfter, tableOf, type End } from './watch-rows.js';
import { watched, type Seen } from './watched.js';
import { tryFile } from './write-text.js';

/** What `vfio-rx watch` is told. */
export interface WatchOptions {
  readonly devices: readonly NamedDevice[];
  /** Where what crosses the port is written; of several devices each has a file of its own. */
  readonly trace?: string | undefined;
}

interface Told {
  readonly at: number;
  readonly ns: bigint;
  readonly seen: Seen | End;
}

/** Opens devices, serves them, and shows what happens until the interrupt. Emits the exit code: 1 where one of them failed. Fails where a trace cannot be written: then nothing is opened. */
export function watchCommand({ devices, trace }: WatchOptions, screen: Screen, interrupt: Observable<unknown>): Observable<number> {
  const names = namesOf(devices);
  return defer(() => {
    let failed = false;
    const paths = trace === undefined ? [] : devices.map((_, at) => (devices.length === 1 ? trace : numbered(trace, at + 1)));
    for (const path of paths) tryFile(path, 'write trace');
    const traces = paths.map((path) => traceFile(path));
    const show = screen.json ? asJson(names, screen) : screen.terminal === undefined ? asLines(names, screen) : asTable(names, screen, screen.terminal);
    const seen = merge(...devices.map((device, at) => oneDevice(device, at, traces[at], interrupt)));
    return concat(
      // Nothing is written before the driver has its ack: whoever reads may be slow.
      seen.pipe(observeOn(asapScheduler), tap(({ seen: one }) => (failed ||= one.kind === 'failed')), tap(show.tell), finalize(show.stop), ignoreElements()),
      defer(() => {
        show.stop();
        return merge(...traces.map((file) => written(file, screen)));
      }),
      defer(() => of(failed ? 1 : 0)),
    );
  });
}

/** The device of a name. Throws VFIO_E_ADDRESS, also for one that only goes by its recording. */
export function watchable(text: string): NamedDevice {
  if (parseDeviceName(text).kind !== 'trace') return parseDevice(text);
  throw new VfioError('VFIO_E_ADDRESS', `"${text}" is a recorded run: vfio-rx replay goes through it, vfio-rx render draws it`, { operation: 'watch' });
}

/** Two of the same name are told apart by a number. */
function namesOf(devices: readonly NamedDevice[]): readonly string[] {
  return devices.map(({ name }, at) => (devices.some((other, where) => where !== at && other.name === name) ? `${name}#${at + 1}` : name));
}

function numbered(path: string, number: number): string {
  const end = extname(path);
  return `${path.slice(0, path.length - end.length)}-${number}${end}`;
}

function oneDevice({ address }: NamedDevice, at: number, record: TraceFile | undefined, interrupt: Observable<unknown>): Observable<Told> {
  return defer(() => {
    let state: State | undefined;
    let because: Extract<End, { readonly kind: 'closed' }>['because'] = 'gone';
    let ns = (): bigint => 0n;
    const interrupted = interrupt.pipe(take(1), tap(() => (because = 'interrupt')));
    let opened = false;
    const body = (device: VfioDevice): Observable<Told> => {
      opened = true;
      const { clock } = device;
      const sinceNs = clock.nowNs();
      ns = () => clock.nowNs() - sinceNs;
      return watched(device).pipe(
        tap((seen) => {
          if (seen.kind === 'state') ({ state } = seen);
          if (asksForIt(seen)) because = 'asked';
        }),
        map((seen) => ({ at, ns: ns(), seen })),
        // Whoever unbinds a device waits until it is closed.
        takeWhile(({ seen }) => !asksForIt(seen), true),
        takeUntil(interrupted),
      );
    };
    return concat(
      withDevice(address, body, record === undefined ? {} : { record }).pipe(
        // Once it is open, it is closed in order.
        takeUntil(interrupted.pipe(filter(() => !opened))),
      ),
      defer(() => of<Told>({ at, ns: ns(), seen: { kind: 'closed', state, because } })),
    ).pipe(catchError((error: unknown) => (VfioError.is(error) ? of<Told>({ at, ns: ns(), seen: { kind: 'failed', error } }) : throwError(() => error))));
  });
}

function asksForIt(seen: Seen): boolean {
  return seen.kind === 'health' && seen.releaseRequests > 0n;
}

/** How what is seen is shown. */
interface Show {
  readonly tell: (told: Told) => void;
  /** What is written next stands below. Idempotent. */
  readonly stop: () => void;
}

function asJson(names: readonly string[], { write }: Screen): Show {
  return { tell: ({ at, ns, seen }) => write(jsonLine({ device: names[at], ns, ...seen })), stop: () => undefined };
}

function asLines(names: readonly string[], { write }: Screen): Show {
  const width = Math.max(...names.map(({ length }) => length));
  return { tell: ({ at, ns, seen }) => write(`${formatNs(Number(ns)).padStart(10)}  ${(names[at] ?? '').padEnd(width)}  ${inWords(seen)}\n`), stop: () => undefined };
}

function asTable(names: readonly string[], { write }: Screen, terminal: Terminal): Show {
  const lines = new LiveLines(terminal);
  const rows = names.map(emptyRow);
  const ends: string[] = [];
  const draw = (): void => lines.draw([...tableOf(rows), 'Ctrl-C closes all of them']);
  draw();
  return {
    tell: ({ at, seen }) => {
      const row = rows[at];
      if (row !== undefined) rows[at] = rowAfter(row, seen);
      if (seen.kind === 'closed' || seen.kind === 'failed') ends.push(`${names[at]}: ${inWords(seen)}\n`);
      draw();
    },
    stop: () => {
      lines.stop();
      for (const end of ends.splice(0)) write(end);
    },
  };
}

/** What became of a trace: it fails as that has failed. */
function written({ closed }: TraceFile, screen: Screen): Observable<never> {
  return closed.pipe(
    tap(({ path, lines, dropped }) => say(screen, { trace: path, lines, dropped }, `${path}: ${lines} lines${dropped === 0 ? '' : `, and ${dropped} that found no room`}${lines > 0 ? `. Look at it: vfio-rx render ${path}` : ''}`)),
    concatMap(({ error }) => (error === undefined ? EMPTY : fails(error))),
  );
}

function fails(error: unknown): Observable<never> {
  return throwError(() => error);
}
