import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { concatMap, map, pipe } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { withDevice } from '../../../src/devices/open.js';
import { readTraceFile } from '../../../src/devices/replay/read-trace-file.js';
import type { Departure } from '../../../src/devices/replay/replay-run.js';
import { replayTrace, type TraceReplay } from '../../../src/devices/replay/replay-trace.js';
import { lineNumber } from '../../../src/devices/trace/reader.js';
import { acknowledge } from '../../../src/operators/acknowledge.js';
import { applyRemap } from '../../../src/operators/apply-remap.js';
import { decodeRegionBitmap } from '../../../src/operators/decode-region-bitmap.js';
import { diffRegions } from '../../../src/operators/diff-regions.js';
import { requeryRegions } from '../../../src/operators/requery-regions.js';
import { marbles } from '../../../src/testing/index.js';
import { demandedRun, type Serving } from '../../support/demanded-run.js';

/**
 * A run of `demandedRun` on Debian's Linux 6.1 with the sample driver, as test/kernel/trace.test.ts leaves it in the folder of its
 * run: what crossed the port, and what came out.
 */
const trace = readTraceFile(join(import.meta.dirname, 'demanded-remap.jsonl'));
const outputs = readFileSync(join(import.meta.dirname, 'demanded-remap.txt'), 'utf8').trimEnd().split('\n');

function replayed(replay: TraceReplay, serving?: Serving): { readonly came: readonly string[]; readonly error: unknown } {
  const came: string[] = [];
  const end: { error?: unknown } = {};
  marbles((t) => {
    withDevice(replay, (device) => demandedRun(device, serving), { clock: t.clock }).subscribe({ next: (line) => came.push(line), error: (error: unknown) => (end.error = error) });
    t.atEnd(() => undefined);
  });
  return { came, error: end.error };
}

describe('a run of the real kernel, without it', () => {
  it('was a migration in which the driver demanded remaps', () => {
    expect(trace.incomplete).toBeUndefined();
    expect(outputs[0]).toMatch(/^batch registered, read 0, not acked, region 0 -0 \+1, region 1 -0 \+2$/);
    expect(outputs.filter((line) => / acked/.test(line))).toContainEqual(expect.stringMatching(/^batch signal, read 1, acked, region 0 -1 \+0, region 1 -1 \+0$/));
    expect(outputs.filter((line) => line.includes('->'))).toEqual(['running -> pre-copy', 'pre-copy -> stop-copy', 'stop-copy -> running']);
  });

  it('gives the same outputs', () => {
    const replay = replayTrace(trace);
    expect(replayed(replay)).toEqual({ came: outputs, error: undefined });
    replay.expectFollowed();
  });

  const changed: readonly [string, Serving, string, RegExp][] = [
    ['an ack before its unmap', (device) => pipe(
      decodeRegionBitmap(), requeryRegions(device), diffRegions(device),
      concatMap((plan) => plan.channel.ack(plan.sumRead).pipe(map(() => plan))),
      applyRemap(device), acknowledge(device),
    ), 'unmap', /^irq.ack \{"irq":\[\d+,0\],"count":"1"\}$/],
    ['a batch that asks for no layout', (device) => pipe(
      decodeRegionBitmap(),
      map((batch) => (batch.because === 'signal' ? { ...batch, candidates: new Set<number>() } : batch)),
      requeryRegions(device), diffRegions(device), applyRemap(device), acknowledge(device),
    ), 'regionInfo', /^irq.ack \{"irq":\[\d+,0\],"count":"1"\}$/],
  ];
  for (const [what, serving, name, actual] of changed) {
    it(`names the first call that departs: ${what}`, () => {
      const signal = trace.entries.findIndex((entry) => entry.kind === 'answer' && entry.name === 'irq.next');
      const there = trace.entries.findIndex((entry, index) => index > signal && entry.kind === 'call' && entry.name === name);
      const replay = replayTrace(trace);
      expect(replayed(replay, serving).error).toBe(replay.departure);
      const { line, expected, actual: came } = replay.departure?.cause as Departure;
      expect(replay.departure).toMatchObject({ code: 'VFIO_E_DEPARTED' });
      expect(line).toBe(lineNumber(there));
      expect(expected.startsWith(`${name} {`)).toBe(true);
      expect(came).toMatch(actual);
    });
  }
});
