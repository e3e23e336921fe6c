import { catchError, concat, concatMap, defer, EMPTY, ignoreElements, map, merge, of, retry, share, take, takeUntil, tap, throwError, timer, using, type Observable } from 'rxjs';
import { VfioError } from '../errors.js';
import { fileJournal } from '../migration/file-journal.js';
import { migrate } from '../migration/migrate.js';
import type { Deadlines, InDoubt, MigrationEvent, Resolution } from '../migration/plan.js';
import { receive } from '../migration/receive.js';
import { resolve } from '../migration/resolve.js';
import type { TlsOptions } from '../transport/tls.js';
import type { Transport } from '../transport/transport.js';
import { parseDevice, withDevices, type OpenedDevice } from './devices.js';
import { isLast, say, shown, type Screen } from './show.js';
import { transportAt, transportTo } from './transports.js';
import { tryFile } from './write-text.js';

/** What the process ends with. */
export const exitCodes = { moved: 0, failed: 1, usage: 2, inDoubt: 3 } as const;

export interface Options {
  readonly devices: readonly string[];
  /** Of the other side, or to listen at. */
  readonly address: string;
  readonly journal: string;
  readonly tls?: TlsOptions;
  readonly downtimeLimitMs?: number;
  readonly noPeerToPeer?: boolean;
  /** How long a phase may take, ms; the rounds of PRE_COPY end by their policy. Default: what `migrate` and `receive` have. */
  readonly patienceMs?: number;
  /** End when the devices have been moved, instead of holding them until the interrupt. */
  readonly exit?: boolean;
}

/** How long between two attempts to end what is in doubt, ms. */
const resolvePauseMs = 1000;

/** The source's side. Emits the exit code, and ends. */
export function migrateCommand(options: Options, screen: Screen, interrupt: Observable<unknown>): Observable<number> {
  const transport = transportTo(options.address, options);
  return tried(options, withDevices(options.devices.map(parseDevice), (devices, broken) => {
    digests(devices, screen);
    const events = migrate({
      devices: devices.map(({ device, name }) => ({ source: device, destination: name })),
      transport,
      journal: fileJournal(options.journal),
      abort: merge(interrupt, broken),
      ...deadlinesOf(options),
      ...(options.downtimeLimitMs === undefined ? {} : { downtimeLimitMs: options.downtimeLimitMs }),
      ...(options.noPeerToPeer === undefined ? {} : { noPeerToPeer: options.noPeerToPeer }),
    });
    return ended(events, screen, interrupt, () => EMPTY);
  }));
}

/** The destination's side. */
export function receiveCommand(options: Options, screen: Screen, interrupt: Observable<unknown>): Observable<number> {
  const transport = listening(options, screen);
  return tried(options, withDevices(options.devices.map(parseDevice), (devices, broken) => {
    const events = receive({
      devices: devices.map(({ device, name }) => ({ name, destination: device })),
      transport,
      journal: fileJournal(options.journal),
      abort: merge(interrupt, broken),
      ...deadlinesOf(options),
    });
    const hold = (heard: boolean): Observable<unknown> => {
      digests(devices, screen);
      if (options.exit === true) return EMPTY;
      if (heard) {
        closing(devices, screen);
        return EMPTY;
      }
      say(screen, { holding: true }, 'the devices run here until the interrupt (Ctrl-C)');
      return merge(interrupt.pipe(take(1), tap(() => closing(devices, screen))), broken.pipe(catchError(() => of(undefined)))).pipe(take(1));
    };
    return ended(events, screen, interrupt, hold);
  }), options.address);
}

/** The journal is tried before a device is opened, or anybody listened for, and so is a socket that is to be made. */
function tried<T>({ journal }: Options, work: Observable<T>, socket?: string): Observable<T> {
  return defer(() => {
    tryJournal(journal);
    if (socket?.startsWith('unix:') === true) tryFile(socket.slice('unix:'.length), 'listen');
    return work;
  });
}

function tryJournal(path: string): void {
  tryFile(path, 'write journal', { code: 'VFIO_E_JOURNAL', readBack: true });
}

function deadlinesOf({ patienceMs }: Options): { readonly deadlines?: Partial<Deadlines> } {
  if (patienceMs === undefined) return {};
  const phases = ['check', 'stop', 'transfer', 'prepare', 'commit', 'release', 'roll-back'] as const;
  return { deadlines: Object.fromEntries(phases.map((phase) => [phase, patienceMs])) };
}

/** Either side, after its process died. The interrupt leaves it in doubt. */
export function resolveCommand(options: Omit<Options, 'devices'> & { readonly listen: boolean }, screen: Screen, interrupt: Observable<unknown>): Observable<number> {
  const transport = options.listen ? listening(options, screen) : transportTo(options.address, options);
  return defer(() => {
    tryJournal(options.journal);
    let left = false;
    const resolved = resolve({ journal: fileJournal(options.journal), transport }).pipe(
      concatMap((resolution) => told(resolution, screen)),
      takeUntil(interrupt.pipe(tap(() => (left = true)))),
    );
    return concat(resolved, defer(() => (left ? inDoubt(screen).pipe(map(() => exitCodes.inDoubt)) : EMPTY)));
  });
}

function listening({ address, tls }: Pick<Options, 'address' | 'tls'>, screen: Screen): Transport {
  return transportAt(address, {
    listening: (found) => say(screen, { listening: found }, `listening at ${found}`),
    refused: (error) => say(screen, { refused: error }, `turned away: ${error.message}`),
    ...(tls === undefined ? {} : { tls }),
  });
}

/** Shows all events; what is in doubt is asked for until it is not, or until the interrupt. `then` is told whether an interrupt has come before it. */
function ended(events: Observable<MigrationEvent>, screen: Screen, interrupt: Observable<unknown>, then: (heard: boolean) => Observable<unknown>): Observable<number> {
  // One after the other listens for the first interrupt: between two of them it would end the process as if nobody did.
  let heard = false;
  return using(() => interrupt.pipe(take(1)).subscribe({ next: () => (heard = true), error: () => undefined }), () => events.pipe(
    shown(screen),
    concatMap((event) => {
      if (!isLast(event)) return [];
      const resolution = event.phase === 'moved' ? of<Resolution>('moved') : resolved(event, screen, interrupt, heard);
      return resolution.pipe(concatMap((one) => (one === 'moved' ? concat(then(heard).pipe(ignoreElements()), of(exitCodes.moved)) : of(one === 'in-doubt' ? exitCodes.inDoubt : exitCodes.failed))));
    }),
  ));
}

/**
 * Asks until there is an answer. The interrupt, also one that was `heard` before, gives up what can be given up: this process is the one that
 * would have run the devices. A further one ends it.
 */
function resolved(event: InDoubt, screen: Screen, interrupt: Observable<unknown>, heard: boolean): Observable<Resolution | 'in-doubt'> {
  const asked = event.resolve().pipe(
    retry({ delay: (error: unknown) => (VfioError.is(error) ? timer(resolvePauseMs) : throwError(() => error)) }),
    concatMap((resolution) => told(resolution, screen).pipe(map(() => resolution))),
  );
  const interrupted = heard ? of(undefined) : interrupt.pipe(take(1), share());
  const leave = interrupted.pipe(concatMap(() => merge(givenUp(event, screen), interrupt.pipe(map(() => 'in-doubt' as const))).pipe(take(1))));
  return merge(asked.pipe(takeUntil(interrupted)), leave).pipe(take(1));
}

function givenUp(event: InDoubt, screen: Screen): Observable<Resolution | 'in-doubt'> {
  if (event.giveUp === undefined) return inDoubt(screen);
  const promised = (): void => say(screen, { resolved: 'not-moved', givenUp: true }, 'given up: the devices never ran here, and the journal says that they never will; `vfio-rx resolve` tells that to the source');
  // Where a device has run, only the source can end it.
  return event.giveUp().pipe(tap(promised), catchError((error: unknown) => (VfioError.is(error) ? inDoubt(screen) : throwError(() => error))));
}

function inDoubt(screen: Screen): Observable<'in-doubt'> {
  say(screen, { resolved: 'in-doubt' }, 'still in doubt: `vfio-rx resolve` on both sides ends it');
  return of('in-doubt');
}

function told(resolution: Resolution, screen: Screen): Observable<number> {
  say(screen, { resolved: resolution }, resolution === 'moved' ? 'resolved: the devices are the destination\'s' : 'resolved: the devices are the source\'s');
  return of(resolution === 'moved' ? exitCodes.moved : exitCodes.failed);
}

function closing(devices: readonly OpenedDevice[], screen: Screen): void {
  const states = devices.map(({ name, device }) => ({ device: name, state: device.currentState.state }));
  say(screen, { interrupted: true, devices: states }, `interrupted: ${states.map(({ device, state }) => `${device} is closed in state ${state}`).join(', ')}`);
}

function digests(devices: readonly OpenedDevice[], screen: Screen): void {
  for (const { name, device, digest } of devices) {
    if (digest !== undefined) say(screen, { device: name, state: device.currentState.state, digest: digest() }, `  ${name}: sha256 ${digest().slice(0, 16)}...`);
  }
}
