import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { lastValueFrom, NEVER } from 'rxjs';
import { expect, it } from 'vitest';
import { recordCommand } from '../../src/cli/record.js';
import { replayCommand } from '../../src/cli/replay.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** The folder of the run outlives the machine. */
const folder = existsSync('/run/vfio-rx') ? '/run/vfio-rx' : mkdtempSync(join(tmpdir(), 'vfio-rx-record-'));

/** An emulated processor may take seconds to start a thread: no clock of the driver decides here. */
const patientMs = 20_000;

it('vfio-rx record takes a real device through its states, and vfio-rx replay tells the same without it', { timeout: 120_000 }, async () => {
  const out = join(folder, 'record.jsonl');
  const did = (lines: readonly string[]): readonly unknown[] => lines.flatMap((line) => {
    const { did: one } = JSON.parse(line) as { readonly did?: string };
    return one === undefined ? [] : [one];
  });
  using mdev = new SampleMdev({ ackTimeoutMs: patientMs });
  const recorded: string[] = [];
  const code = await lastValueFrom(recordCommand({ device: mdev.uuid, out, states: ['pre-copy', 'stop-copy', 'running'] }, { write: (line) => recorded.push(line), json: true }, NEVER));
  expect(code).toBe(0);
  expect({ ...mdev.held(), violations: mdev.number('violations') }).toEqual({ ...nothingHeld, violations: 0 });
  expect(did(recorded)).toEqual(expect.arrayContaining(['running -> pre-copy', 'pre-copy -> stop-copy', 'stop-copy -> running', expect.stringMatching(/acked, region 0 -1 \+0/), expect.stringMatching(/ bytes saved, then end$/)]));

  const replayed: string[] = [];
  await lastValueFrom(replayCommand(out, { write: (line) => replayed.push(line), json: true }));
  expect(did(replayed)).toEqual(did(recorded));
});
