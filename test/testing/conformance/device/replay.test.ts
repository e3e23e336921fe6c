import { defer } from 'rxjs';
import { expect, it } from 'vitest';
import type { Clock } from '../../../../src/clock.js';
import type { PortSource } from '../../../../src/devices/open.js';
import { checkDevice, deviceMigrationHarness, memoryTrace, readTrace, recordPort, replayTrace, softwareMigrationHarness, virtualRun, type MemoryTrace } from '../../../../src/testing/index.js';

it('the suite of a device gives the same verdicts over its own recording', async () => {
  const kept: MemoryTrace[] = [];
  const lacks = { writes: 'a recording writes nothing by itself' };
  const recorded = await virtualRun((clock) => checkDevice({
    ...softwareMigrationHarness({
      clock,
      around: (port) => {
        const trace = memoryTrace();
        kept.push(trace);
        return recordPort(port, trace, { dataBytes: 1 << 20 });
      },
    }),
    lacks,
  }));
  expect(recorded.filter(({ outcome }) => outcome === 'passed').length).toBeGreaterThan(20);

  const traces = kept.values();
  const source: PortSource = { open: (clock: Clock) => defer(() => replayTrace(readTrace(traces.next().value?.text ?? '')).open(clock)) };
  const replayed = await virtualRun((clock) => checkDevice(deviceMigrationHarness(source, { patienceMs: 5000, deadlineMs: 1000, clock, destructive: true, lacks })));
  expect(replayed).toEqual(recorded);
  expect(traces.next().done).toBe(true);
});
