import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { TraceLog } from '../../../examples/main-job/trace-log.js';
import { readTraceLine, sysfsWitness } from '../../../examples/main-job/witness.js';

/** A folder as the sample driver has it in sysfs. */
function sysfs(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-sysfs-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'remap'));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, 'remap', name), text);
  return folder;
}

describe('the witness in sysfs', () => {
  it('reads the mailbox; a number that came twice was received once', () => {
    const mailbox = 'guest=0 received=12 duplicates=2 highest=11 by_map=9 by_trap=3\nguest=1 received=0 duplicates=0 highest=0 by_map=0 by_trap=0\nstale=4\ninvalid=0\n';
    const { deliveries } = sysfsWitness(sysfs({ mailbox }));
    expect(deliveries.guests[0]).toEqual({ received: 10, duplicates: 2, missing: 1, byMap: 9, byTrap: 3 });
    expect(deliveries.stale).toBe(4);
  });

  it('reads sums of 64 bits, what is held, and the trace', () => {
    const witness = sysfsWitness(sysfs({ sent: '18446744073709551615\n', acked: '1\n', violations: '2\n', opens: '1\n', vmas: '3\n', irqs: '2\n', waiters: '1\n', trace: '0 5 open\n1 6 ack value=1\n' }));
    expect(witness.sums).toEqual({ sent: 18446744073709551615n, acked: 1n });
    expect(witness.violations).toBe(2);
    expect(witness.held).toEqual({ opens: 1, vmas: 3, irqs: 2, waiters: 1 });
    expect(witness.trace).toEqual([
      { seq: 0, atNs: 5n, event: 'open', fields: {} },
      { seq: 1, atNs: 6n, event: 'ack', fields: { value: '1' } },
    ]);
  });

  it('reads an empty trace', () => {
    expect(sysfsWitness(sysfs({ trace: '\n' })).trace).toEqual([]);
  });
});

describe('the trace log', () => {
  const lines = (...seqs: readonly number[]) => seqs.map((seq) => readTraceLine(`${seq} ${seq} open`));

  it('keeps what the driver dropped later, each event once', () => {
    const log = new TraceLog();
    log.collect(lines(0, 1, 2));
    log.collect(lines(2, 3));
    log.collect(lines(2, 3));
    expect(log.lines.map(({ seq }) => seq)).toEqual([0, 1, 2, 3]);
    expect(log.missed).toBe(0);
  });

  it('counts what was gone before it was asked', () => {
    const log = new TraceLog();
    log.collect(lines(0, 1));
    log.collect(lines(4, 5));
    expect(log.missed).toBe(2);
  });
});
