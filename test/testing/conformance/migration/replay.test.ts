import { map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../../../src/clock.js';
import { softwareDevice } from '../../../../src/devices/index.js';
import { checkMigration, deviceMigrationHarness, memoryTrace, readTrace, recordPort, replayTrace, sampleState, virtualRun, type MemoryTrace } from '../../../../src/testing/index.js';

/** Every byte of the state. */
const everything = { dataBytes: 1 << 20 };

describe('the migration suite over a recorded run', () => {
  it.each([1, 2] as const)('says what it said when it was recorded: device_state of v%i', async (migrationVersion) => {
    const traces: MemoryTrace[] = [];
    const options = { patienceMs: 5000, destructive: true, state: sampleState };
    const recorded = {
      open: (clock: Clock) => softwareDevice({ migrationVersion, regions: [{ index: 0, size: 0x2000, areas: 'all', savingAreas: [] }, { index: 2, size: 0x1000 }], mailbox: false }).open(clock).pipe(map((port) => {
        const trace = memoryTrace();
        traces.push(trace);
        return recordPort(port, trace, everything);
      })),
    };
    const was = await virtualRun((clock) => checkMigration(deviceMigrationHarness(recorded, { ...options, clock })));
    expect(was.filter(({ outcome }) => outcome === 'failed')).toEqual([]);

    const replays = traces.map(({ text }) => replayTrace(readTrace(text)));
    let next = 0;
    const replayed = { open: (clock: Clock) => (replays[next++] ?? replayTrace(readTrace(''))).open(clock) };
    expect(await virtualRun((clock) => checkMigration(deviceMigrationHarness(replayed, { ...options, clock })))).toEqual(was);
    for (const replay of replays) replay.expectFollowed();
  });
});
