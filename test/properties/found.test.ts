import { catchError, EMPTY } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { remapIrq } from '../../src/streams/index.js';
import { trueCast, type Cast } from './cast.js';
import { mappingsEqualLayout } from './judges/mappings.js';
import { nothingRemainsInTheEnd } from './judges/waits.js';
import { play } from './run.js';
import { rows } from './rows.js';
import { keepsItsDuties, type Schedule } from './schedule.js';

/** One region of one page that is revoked for saving; a driver that is never slow. */
const plain: Schedule['device'] = {
  row: rows['doorbell, value'],
  firstIndex: 0,
  onNextPage: 0,
  regions: [{ pages: 1, outside: 'all', saving: 'nothing', declared: true }],
  migration: 7,
  ackTimeoutMs: 2,
  maxWaits: 1,
  signalDelayUs: 0,
  arcLatencyUs: 0,
};

const ordinarily = { device: plain, misbehaviour: keepsItsDuties, live: false, subscribesAtOnce: true } as const;

/** A layout that follows the state, and a driver that keeps each write for a while. */
const stalling: Schedule['misbehaviour'] = { what: 'stall', begin: (faults) => { faults.stallMs = 300; } };

/** Schedules that random search has found, each of which once broke a promise: so that it need not find them again. */
describe('found before', () => {
  it('P5: a batch that goes on after close() offers nothing to a holder that has just let go', () => {
    // The user keeps the error of the closed irq from the batch that is on its way.
    const cast: Cast = { ...trueCast, remapIrq: (device) => remapIrq(device).pipe(catchError(() => EMPTY)) };
    const schedule: Schedule = {
      ...ordinarily,
      lateUs: [[], [80], [], [28], []],
      acts: [
        { afterUs: 0, act: { do: 'hold', region: 0, letsGoAfterUs: 21 } },
        { afterUs: 141, act: { do: 'flicker', region: 0 } },
        { afterUs: 60, act: { do: 'close' } },
        { afterUs: 1, act: { do: 'touch', region: 0 } },
      ],
      afterRest: [],
      ending: 'nothing',
    };
    expect(play(schedule, cast).at(-1)).toMatchObject({ what: 'at rest', held: { opens: 0, vmas: 0, irqs: 0, waiters: 0 }, violations: [] });
  });

  it('P6: a write of device_state whose holders are still letting go at close() is not begun any more', () => {
    const schedule: Schedule = {
      ...ordinarily,
      device: { ...plain, row: rows['saving-layout'] },
      misbehaviour: stalling,
      lateUs: [],
      acts: [
        { afterUs: 0, act: { do: 'hold', region: 0, letsGoAfterUs: 1 } },
        { afterUs: 1, act: { do: 'transition', to: 'over', deadlineMs: undefined } },
        { afterUs: 1, act: { do: 'close' } },
      ],
      afterRest: [],
      ending: 'nothing',
    };
    const history = play(schedule);
    expect(history.filter(({ what }) => what === 'transition answered')).toMatchObject([{ code: 'VFIO_E_CLOSED' }]);
    expect(nothingRemainsInTheEnd(history, schedule).complaints).toEqual([]);
  });

  it('P1: in profile saving-layout a write of device_state overtakes the first batch, which has asked for the layout before it', () => {
    const schedule: Schedule = {
      ...ordinarily,
      device: { ...plain, row: rows['saving-layout'], regions: [...plain.regions, { pages: 1, outside: 'nothing', saving: 'all', declared: true }] },
      lateUs: [[], [], [], [1], []],
      acts: [{ afterUs: 0, act: { do: 'transition', to: 'over', deadlineMs: undefined } }],
      afterRest: [],
      ending: 'nothing',
    };
    expect(mappingsEqualLayout(play(schedule), schedule).complaints).toEqual([]);
  });
});
