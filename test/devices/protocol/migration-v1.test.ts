import { describe, expect, it } from 'vitest';
import { statesOf, type TargetState } from '../../../src/devices/protocol/migration-states.js';
import { pathOfV1 } from '../../../src/devices/protocol/migration-v1.js';
import { states } from '../../../src/devices/uapi/migration-state.js';

/** Every write of v1's device_state, by the bits that it has before and after: `=` there already, `>` an arc, `.` refused. */
const writes: readonly (readonly [TargetState, string])[] = [
  //                   stop running stop-copy resuming pre-copy
  ['stop', /*       */ '=    >       >        >        .'],
  ['running', /*    */ '>    =       >        >        >'],
  ['stop-copy', /*  */ '>    >       =        .        .'],
  ['resuming', /*   */ '>    >       .        =        .'],
  ['pre-copy', /*   */ '>    >       >        .        ='],
];

const columns: readonly TargetState[] = writes.map(([state]) => state);

describe('migration v1', () => {
  it('has the states of a v2 device with STOP_COPY and PRE_COPY', () => {
    expect([...columns].sort()).toEqual([...statesOf(5)].sort());
  });

  for (const [from, row] of writes) {
    it(`from ${from}: every write, each one arc or refused`, () => {
      const expected = row.split(/ +/);
      for (const [n, to] of columns.entries()) {
        const path = { '=': [], '>': [to], '.': undefined }[expected[n] ?? ''];
        expect(pathOfV1(from, to), `${from} to ${to}`).toEqual(path);
      }
    });
  }

  it('knows no other state, neither as a target nor to come from', () => {
    for (const other of states.filter((state) => !columns.some((known) => known === state))) {
      for (const state of states) {
        expect(pathOfV1(state, other), `${state} to ${other}`).toBeUndefined();
        expect(pathOfV1(other, state), `${other} to ${state}`).toBeUndefined();
      }
    }
  });
});
