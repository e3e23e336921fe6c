import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { withDevice } from '../../src/devices/open.js';
import { readTraceFile } from '../../src/devices/replay/read-trace-file.js';
import { replayTrace } from '../../src/devices/replay/replay-trace.js';
import { traceFile } from '../../src/devices/replay/trace-file.js';
import { demandedRun } from '../support/demanded-run.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';
import { virtualClock } from '../support/virtual-clock.js';

/** The folder of the run outlives the machine: what is recorded here is kept in test/devices/replay. */
const folder = existsSync('/run/vfio-rx') ? '/run/vfio-rx' : mkdtempSync(join(tmpdir(), 'vfio-rx-trace-'));

/** An emulated processor may take seconds to start a thread: the driver's clock decides only where a test wants it to. */
const patientMs = 20_000;

describe('a run on the real kernel', () => {
  it('is recorded, and replays in virtual time with the same outputs', { timeout: 120_000 }, async () => {
    const path = join(folder, 'demanded-remap.jsonl');
    using mdev = new SampleMdev({ ackTimeoutMs: patientMs });
    const record = traceFile(path);
    const came = await lastValueFrom(withDevice(mdev.uuid, (device) => demandedRun(device), { record }).pipe(toArray()));
    expect(await firstValueFrom(record.closed)).toMatchObject({ dropped: 0 });
    expect({ ...mdev.held(), violations: mdev.number('violations') }).toEqual({ ...nothingHeld, violations: 0 });
    expect(mdev.number('acked')).toBe(mdev.number('sent'));
    writeFileSync(join(folder, 'demanded-remap.txt'), came.map((line) => `${line}\n`).join(''));

    expect(came).toContain('running -> pre-copy');
    expect(came.filter((line) => line.includes(', acked, region 0 -1 +0')).length).toBe(1);
    const trace = readTraceFile(path);
    expect(trace.incomplete).toBeUndefined();
    expect(readFileSync(path, 'utf8').split('\n').length).toBe(trace.entries.length + 2);

    const replay = replayTrace(trace);
    const clock = virtualClock();
    const again: string[] = [];
    const failed: unknown[] = [];
    withDevice(replay, (device) => demandedRun(device), { clock }).subscribe({ next: (line) => again.push(line), error: (error: unknown) => failed.push(error) });
    clock.flush();
    expect(failed).toEqual([]);
    replay.expectFollowed();
    expect(again).toEqual(came);
  });
});
