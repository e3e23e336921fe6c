import type { Observable } from 'rxjs';
import type { Lane, PortEvent } from '../diagnostics.js';
import type { ReleaseReport } from '../devices/port.js';
import { eventText, expectedLane, laneOrder, type Lanes } from './device-lanes.js';
import { firstDifference } from './difference.js';
import { marker, type Check } from './expect-observable.js';
import type { FrameScheduler } from './frame-scheduler.js';
import { usPerFrame } from './frames.js';
import { MarbleError, type CallSite } from './marble-error.js';
import { around, drawLines } from './picture.js';
import { describe, type Shown } from './shown.js';

/** What `t.expectDevice` needs of a device: its name on the diagnostics channel. */
export interface NamedDevice {
  readonly name: string;
}

/** And for `toBeReleased`: the report of its teardown. */
export interface ReleasableDevice extends NamedDevice {
  readonly released: Observable<ReleaseReport>;
}

/** The check behind `t.expectDevice(device).toShow(lanes)`: only the lanes that are given are compared. */
export function lanesCheck(scheduler: FrameScheduler, device: NamedDevice, events: () => readonly PortEvent[], lanes: Lanes, at: CallSite): Check {
  const expected = new Map<Lane, readonly Shown[]>();
  for (const lane of laneOrder) {
    const marbles = lanes[lane];
    if (marbles !== undefined) expected.set(lane, expectedLane(lane, marbles, scheduler.unit));
  }
  const unknown = Object.keys(lanes).filter((lane) => !laneOrder.some((known) => known === lane));
  if (unknown.length > 0) throw new Error(`no such lane: ${unknown.join(', ')}; a device has ${laneOrder.join(', ')}`);
  if (expected.size === 0) throw new Error('toShow() without a lane asserts nothing');
  return () => {
    const mine = events().filter((event) => event.device === device.name);
    const compared = [...expected].map(([lane, wanted]) => {
      const came = mine.filter((event) => event.lane === lane).map((event): Shown => ({ frame: frameOf(event, scheduler), text: eventText(event) }));
      return { lane, wanted, came, difference: firstDifference(wanted, came, scheduler.unit) };
    });
    const differing = compared.filter(({ difference }) => difference !== undefined);
    if (differing.length === 0) return;

    const width = Math.max(...compared.map(({ lane }) => lane.length));
    const lines = compared.flatMap(({ lane, wanted, came, difference }) =>
      difference === undefined
        ? [{ title: lane, events: wanted }]
        : [
            { title: `${lane.padEnd(width)}  expected`, events: wanted },
            { title: `${' '.repeat(width)}  actual`, events: came },
          ],
    );
    const first = Math.min(...differing.map(({ difference }) => difference?.frame ?? Infinity));
    const { lines: near, left } = around(lines, first);
    const picture = drawLines(near, scheduler.unit);
    const drawn = [...picture.lines];
    const text = compared.flatMap(({ difference }) => (difference === undefined ? drawn.splice(0, 1) : [...drawn.splice(0, 2), marker(picture, difference)]));
    throw new MarbleError([`${device.name}: ${lanesInWords(differing.map(({ lane }) => lane))}${left}`, '', ...text].join('\n'), at, {
      expected: linesOf(picture.lines, lines, /expected$/),
      actual: linesOf(picture.lines, lines, /actual$/),
    });
  };
}

/** The check behind `t.expectDevice(device).toBeReleased()`. */
export function releasedCheck(device: ReleasableDevice, at: CallSite): Check {
  return () => {
    const reports: ReleaseReport[] = [];
    const end = { complete: false };
    const note = (error: unknown): void => void reports.push({ what: 'released', error });
    device.released.subscribe({ next: (report) => reports.push(report), error: note, complete: () => (end.complete = true) }).unsubscribe();
    if (end.complete && reports.every(({ error }) => error === undefined)) return;
    const why = end.complete ? 'its teardown had errors' : 'it still holds something: was it closed?';
    const steps = reports.map(({ what, error }) => `  ${what}${error === undefined ? '' : `: ${describe(error)}`}`);
    throw new MarbleError([`${device.name} is not released: ${why}`, ...(steps.length > 0 ? ['', ...steps] : [])].join('\n'), at);
  };
}

function frameOf({ atNs }: PortEvent, scheduler: FrameScheduler): number {
  return Number(atNs / (BigInt(usPerFrame(scheduler.unit)) * 1_000n));
}

function lanesInWords(lanes: readonly Lane[]): string {
  return lanes.length === 1 ? `lane ${lanes.join()} differs` : `lanes ${lanes.join(', ')} differ`;
}

function linesOf(drawn: readonly string[], lines: readonly { readonly title: string }[], which: RegExp): string {
  return drawn.filter((_, index) => which.test(lines[index]?.title ?? '')).join('\n');
}
