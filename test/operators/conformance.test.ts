import { of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import * as operators from '../../src/operators/index.js';
import { acknowledge, applyRemap, decodeRegionBitmap, diffRegions, gateByState, lockstep, recoverDevices, remapRegions, requeryRegions, retryWithBackoff, stepDeadline } from '../../src/operators/index.js';
import { describeOperator, type OperatorSubject, type TestRunner } from '../../src/testing/index.js';
import { appliedOf, batchOf, planOf, requeriedOf, signalOf, testChannel } from '../support/batches.js';
import { now, twoRegions } from '../support/devices.js';

const nth = (batch: number) => ({ batch, because: 'signal' as const });
const aQueryFails: OperatorSubject<RemapSignal, RemapSignal>['fail'] = (driver) => { driver.faults.failQuery(0, 'EIO', 99); };

/** What is the same for every step of the remap pipeline. */
const step = { answers: ({ batch }: RemapSignal) => batch, device: twoRegions };

function run<In extends RemapSignal, Out extends RemapSignal>(subject: Omit<OperatorSubject<In, Out>, 'answers' | 'device'>) {
  return (runner: TestRunner, name: string): void => { describeOperator(runner, name, { ...step, ...subject }); };
}

const numbered = (n: number): { readonly n: number } => ({ n });

/** An operator that is not about remaps. */
function coordination<In, Out>(subject: OperatorSubject<In, Out>) {
  return (runner: TestRunner, name: string): void => { describeOperator(runner, name, { device: { ...twoRegions, remap: false }, ...subject }); };
}

/** Every operator of the package, and what it is fed with: a new one needs a line here. */
const checks: Readonly<Record<keyof typeof operators, (runner: TestRunner, name: string) => void>> = {
  decodeRegionBitmap: run({ make: () => decodeRegionBitmap(), input: (n) => signalOf(testChannel(), 1n, nth(n)) }),
  requeryRegions: run({ make: requeryRegions, input: (n) => batchOf(testChannel(), nth(n)), fail: aQueryFails }),
  diffRegions: run({ make: diffRegions, input: (n, device) => ({ ...requeriedOf(device, testChannel()), ...nth(n) }) }),
  applyRemap: run({
    make: applyRemap,
    input: (n, device) => {
      // Mapped before, so that each batch finds what the one before it found.
      now(device.mapRegion(0));
      now(device.mapRegion(1));
      return { ...planOf(device, testChannel()), ...nth(n) };
    },
    fail: (_, device) => { void device.close(); },
  }),
  acknowledge: run({ make: acknowledge, input: (n) => appliedOf(testChannel(), 1n, nth(n)) }),
  lockstep: coordination({ make: (device) => lockstep([device], (_, { n }: { readonly n: number }) => of(n)), input: numbered, answers: ([n = -1]: readonly number[]) => n }),
  gateByState: coordination({
    make: (device) => gateByState(device, ['running']),
    input: numbered,
    answers: ({ n }) => n,
    fail: (_, device) => { void device.close(); },
  }),
  stepDeadline: coordination({ make: (device) => stepDeadline(device.clock, { deadlineMs: 1e6 }), input: numbered, answers: ({ n }) => n }),
  retryWithBackoff: coordination({ make: (device) => retryWithBackoff(device.clock), input: numbered, answers: ({ n }) => n }),
  recoverDevices: coordination({ make: (device) => recoverDevices([device]), input: numbered, answers: ({ n }) => n }),
  remapRegions: run({
    make: remapRegions,
    input: (n, device) => {
      now(device.mapRegion(0));
      now(device.mapRegion(1));
      return signalOf(testChannel(), 1n, nth(n));
    },
    fail: aQueryFails,
  }),
};

for (const [name, check] of Object.entries(checks)) check({ describe, it }, name);

describe('the operators of the package', () => {
  it('are all checked', () => {
    expect(Object.keys(checks).sort()).toEqual(Object.keys(operators).sort());
  });
});
