import { expect, it } from 'vitest';
import { checkPort, portRules, readTrace, virtualRun } from '../../src/testing/index.js';
import { recordedHarness, replayedHarness } from '../support/replayed-port.js';

const kept: Parameters<typeof recordedHarness>[1] = [];
const memory = 'accesses to mapped memory do not cross the port: a replay maps zeros';

it('the port suite gives the same verdicts over its own recording, without any device', async () => {
  const recorded = await virtualRun((clock) => checkPort({ ...recordedHarness(clock, kept), lacks: { memory } }));
  const replayed = await virtualRun((clock) => checkPort({ ...replayedHarness(clock, kept), lacks: { memory } }));
  expect(replayed).toEqual(recorded);
  expect(replayed.filter(({ outcome }) => outcome !== 'passed')).toEqual([expect.objectContaining({ rule: 'PORT-4.2', outcome: 'skipped', reason: memory })]);
  expect(replayed.length).toBe(portRules.length);
  for (const { trace } of kept) expect(readTrace(trace.text).incomplete).toBeUndefined();
});

it('a mapping over a replay is what the suite says it lacks', async () => {
  const whole: typeof kept = [];
  await virtualRun((clock) => checkPort(recordedHarness(clock, whole)));
  const failed = (await virtualRun((clock) => checkPort(replayedHarness(clock, whole)))).filter(({ outcome }) => outcome === 'failed');
  expect(failed).toEqual([expect.objectContaining({ rule: 'PORT-4.2', reason: 'the mapping should show what a trapped write wrote' })]);
});
