import { defer } from 'rxjs';
import { expect, it } from 'vitest';
import type { Clock } from '../../../../src/clock.js';
import type { PortSource } from '../../../../src/devices/open.js';
import { deviceMigrationHarness } from '../../../../src/testing/conformance/device/address-harness.js';
import { checkMigration, memoryTrace, readTrace, recordPort, replayTrace, sampleState, softwareMigrationHarness, virtualRun, type MemoryTrace } from '../../../../src/testing/index.js';

for (const migrationVersion of [2, 1] as const) {
  it(`the migration suite gives the same verdicts over its own recording: v${migrationVersion}`, async () => {
    const kept: MemoryTrace[] = [];
    const recorded = await virtualRun((clock) => checkMigration(softwareMigrationHarness({
      clock,
      device: { migrationVersion },
      around: (port) => {
        const trace = memoryTrace();
        kept.push(trace);
        return recordPort(port, trace, { dataBytes: 1 << 20 });
      },
    })));
    expect(recorded.filter(({ outcome }) => outcome === 'passed').length).toBeGreaterThan(10);

    const traces = kept.values();
    const source: PortSource = { open: (clock: Clock) => defer(() => replayTrace(readTrace(traces.next().value?.text ?? '')).open(clock)) };
    const replayed = await virtualRun((clock) => checkMigration(deviceMigrationHarness(source, { patienceMs: 5000, deadlineMs: 1000, clock, destructive: true, state: sampleState })));
    expect(replayed).toEqual(recorded);
    expect(traces.next().done).toBe(true);
  });
}
