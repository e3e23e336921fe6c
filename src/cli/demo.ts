import { concat, concatMap, defer, EMPTY, finalize, from, ignoreElements, merge, NEVER, of, Subject, take, takeUntil, tap, timer, type Observable } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import { withDevice } from '../devices/open.js';
import type { State } from '../devices/port.js';
import type { Remap } from '../devices/remap-batch.js';
import { softwareDevice } from '../devices/software/software-device.js';
import { remapRegions } from '../operators/remap-regions.js';
import { remapIrq } from '../streams/remap-irq.js';
import { transition } from '../streams/transition.js';
import { formatNs } from '../testing/drawing/drawing.js';
import { demoGuest, guestNumber, mailboxRegion } from './demo-guest.js';
import { demoVerdict, type Check } from './demo-verdict.js';
import { say, type Screen } from './show.js';

/** One line of the story. */
export interface DemoLine {
  /** Since the device was opened. */
  readonly ns: bigint;
  readonly who: 'demo' | 'driver' | 'pipeline' | 'guest';
  readonly says: string;
}

/** How the demo is run. */
export interface DemoOptions {
  /** How long the guest writes, ms. */
  readonly forMs: number;
  readonly clock?: Clock;
  /** Ends it before its time; there is no verdict then. */
  readonly interrupt?: Observable<unknown>;
}

/** Where device_state goes, and what that is for. */
const course: readonly (readonly [State, string])[] = [
  ['pre-copy', 'a migration begins: the device still runs while its state is copied'],
  ['running', 'the migration is given up, everything as before'],
  ['stop-copy', 'the next one stops the device at once'],
  ['running', 'given up again, and it runs'],
];

/** How long the driver waits for an ack, ms. */
const ackTimeoutMs = 2000;

/**
 * What this library is for, on a device in this process: a guest writes numbers into mapped memory of a device, and goes on when
 * the vendor driver takes that memory away in the middle of a write of device_state.
 *
 * - **Emits** a line for each thing that happens, then each check of the verdict, which is the device's own. **Drops** nothing.
 * - **Completes** when the device is closed. **Fails** as `remapIrq` and `transition` do. **Releases** the device.
 */
export function demo({ forMs, clock, interrupt = NEVER }: DemoOptions): Observable<DemoLine | Check> {
  return defer(() => {
    const source = softwareDevice({ name: 'demo', scanMs: 1, remap: { ackTimeoutMs } });
    let sent = 0;
    let cut = false;
    const story = withDevice(source, (device) => {
      const sinceNs = device.clock.nowNs();
      const line = (who: DemoLine['who'], says: string): DemoLine => ({ ns: device.clock.nowNs() - sinceNs, who, says });
      const stop = new Subject<void>();
      const idle = new Subject<void>();
      const interrupted = interrupt.pipe(take(1), tap(() => (cut = true)));
      const began = of(line('demo', `a device in this process, whose driver may want its mapped memory back; it waits ${ackTimeoutMs} ms for us, no longer`));
      const served = remapIrq(device).pipe(remapRegions(device), concatMap((remap) => from(toldRemap(remap).map(([who, says]) => line(who, says)))));
      // Its last number is on its way when it is told to stop: the device is served until that has arrived.
      const writing = concat(
        demoGuest(device, stop).pipe(tap((count) => (sent = count)), ignoreElements()),
        defer(() => {
          idle.next();
          return EMPTY;
        }),
      );
      const going = concat(defer(() => of(line('guest', `writes a number every millisecond into region ${mailboxRegion}`))), states(device, forMs, line, () => sent));
      return concat(began, merge(served.pipe(takeUntil(idle)), writing, going.pipe(takeUntil(interrupted), finalize(() => stop.next()))));
    }, clock === undefined ? {} : { clock });
    return concat(story, defer(() => (cut ? EMPTY : from(demoVerdict(source.driver, guestNumber, sent)))));
  });
}

/** device_state goes its course, with a pause before, between and after. */
function states(device: VfioDevice, forMs: number, line: (who: DemoLine['who'], says: string) => DemoLine, sent: () => number): Observable<DemoLine> {
  const pause = timer(timerMs(forMs / (course.length + 1)), device.clock.scheduler).pipe(ignoreElements());
  const arcs = course.map(([to, why]) =>
    concat(
      defer(() => of(line('demo', `${why} (device_state: ${to})`))),
      transition(device, to).pipe(
        // What it has to say is not asked for here.
        tap(({ data }) => data !== undefined && disregard(data.close())),
        concatMap(({ tookNs }) => of(line('driver', `device_state is ${to}, ${formatNs(Number(tookNs))} after it was asked to be`), line('guest', `has written ${sent()} numbers, and never stopped`))),
      ),
      pause,
    ),
  );
  return concat(pause, ...arcs);
}

function toldRemap({ because, acked, diffs, servedNs }: Remap): readonly (readonly [DemoLine['who'], string])[] {
  const names = (change: 'revoked' | 'added'): string => diffs.filter((diff) => diff[change].length > 0).map(({ index }) => `region ${index}`).join(' and ');
  const [taken, given] = [names('revoked'), names('added')];
  if (because === 'registered') return [['pipeline', `listens to the driver's irq, and has mapped what may be mapped: of ${given}`]];
  if (taken === '' && given === '') return [];
  const did = [...(taken === '' ? [] : [`took ${taken} out of the guest's reach, which writes through the driver now`]), ...(given === '' ? [] : [`mapped ${given} again`])].join(', ');
  return [['driver', 'irq: look at your regions again, I wait'], ['pipeline', `${did}${acked ? `, and said so ${formatNs(Number(servedNs))} after the irq` : ''}`]];
}

/** Tells the story and the verdict. Emits the exit code. */
export function demoCommand(options: DemoOptions, screen: Screen): Observable<number> {
  return defer(() => {
    let wrong = 0;
    let checks = 0;
    const tell = (told: DemoLine | Check): void => {
      if ('who' in told) {
        say(screen, told, `${(Number(told.ns) / 1e9).toFixed(3).padStart(7)} s  ${told.who.padEnd(8)}  ${told.says}`);
        return;
      }
      if (checks === 0 && !screen.json) screen.write('\nThe device says:\n');
      checks += 1;
      if (!told.good) wrong += 1;
      say(screen, told, `  ${told.good ? 'ok   ' : 'WRONG'}  ${told.what}: ${told.detail}`);
    };
    return concat(
      demo(options).pipe(tap(tell), ignoreElements()),
      defer(() => {
        if (checks === 0) say(screen, { interrupted: true }, 'interrupted: the device is closed, and there is no verdict');
        else if (!screen.json) screen.write(`${wrong === 0 ? 'All is well' : 'Something is wrong'}. What this machine has: vfio-rx list. What there is to do: vfio-rx --help\n`);
        return of(wrong === 0 ? 0 : 1);
      }),
    );
  });
}
