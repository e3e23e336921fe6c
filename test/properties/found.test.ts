import { catchError, EMPTY } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { remapIrq } from '../../src/streams/index.js';
import { trueCast, type Cast } from './cast.js';
import { play } from './run.js';
import type { Schedule } from './schedule.js';

/** One region of one page that is revoked for saving; a driver that is never slow. */
const plain: Schedule['device'] = {
  regions: [{ pages: 1, outside: 'all', saving: 'nothing', declared: true }],
  migration: 7,
  ackTimeoutMs: 2,
  maxWaits: 1,
  signalDelayUs: 0,
  arcLatencyUs: 0,
};

/** Schedules that random search has found, each of which once broke a promise: so that it need not find them again. */
describe('found before', () => {
  it('P5: a batch that goes on after close() offers nothing to a holder that has just let go', () => {
    // The user keeps the error of the closed irq from the batch that is on its way.
    const cast: Cast = { ...trueCast, remapIrq: (device) => remapIrq(device).pipe(catchError(() => EMPTY)) };
    const schedule: Schedule = {
      device: plain,
      lateUs: [[], [80], [], [28], []],
      acts: [
        { afterUs: 0, act: { do: 'hold', region: 0, letsGoAfterUs: 21 } },
        { afterUs: 141, act: { do: 'flicker', region: 0 } },
        { afterUs: 60, act: { do: 'close' } },
        { afterUs: 1, act: { do: 'touch', region: 0 } },
      ],
      ending: 'nothing',
    };
    expect(play(schedule, cast).at(-1)).toMatchObject({ what: 'at rest', held: { opens: 0, vmas: 0, irqs: 0, waiters: 0 }, violations: [] });
  });
});
