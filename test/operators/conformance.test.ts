import { describe, expect, it } from 'vitest';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import * as operators from '../../src/operators/index.js';
import { acknowledge, applyRemap, decodeRegionBitmap, diffRegions, remapRegions, requeryRegions } from '../../src/operators/index.js';
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
