import fc from 'fast-check';
import { defer, Subject, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import type { Journal } from '../../src/migration/journal.js';
import type { InDoubt, MigrationEvent } from '../../src/migration/plan.js';
import { virtualClock } from '../support/virtual-clock.js';
import { owners, states, watchOwners } from './owner.js';
import { pair } from './pair.js';

/** One thing that goes wrong, or none. Times are ms of virtual time; a migration without faults takes about 30. */
const fault = fc.oneof(
  fc.constant({ kind: 'none' as const }),
  fc.record({ kind: fc.constantFrom('cut', 'abort', 'unsubscribe', 'give-up', 'leave'), atMs: fc.integer({ min: 0, max: 60 }) }),
  fc.record({ kind: fc.constant('source arc' as const), device: fc.nat({ max: 7 }), arc: fc.constantFrom('pre-copy', 'pre-copy-p2p', 'running-p2p', 'stop-copy', 'running') }),
  fc.record({ kind: fc.constant('destination arc' as const), device: fc.nat({ max: 7 }), arc: fc.constantFrom('resuming', 'stop', 'running-p2p', 'running') }),
  fc.record({ kind: fc.constantFrom('source disk', 'destination disk'), record: fc.nat({ max: 3 }), twice: fc.boolean(), kept: fc.boolean() }),
);

const scenario = fc.record({
  count: fc.integer({ min: 1, max: 8 }),
  version: fc.constantFrom(1 as const, 2 as const),
  latencyMs: fc.integer({ min: 0, max: 3 }),
  windowBytes: fc.constantFrom(undefined, 256, 4096),
  faults: fc.array(fault, { minLength: 1, maxLength: 2 }),
});

type Fault = typeof fault extends fc.Arbitrary<infer F> ? F : never;
type Scenario = typeof scenario extends fc.Arbitrary<infer S> ? S : never;

/** Fails its nth write (and the next); `kept`: the entry is there all the same. */
function failing(journal: Journal, faults: readonly Fault[], kind: string): Journal {
  let n = -1;
  return {
    name: journal.name,
    read: () => journal.read(),
    write: (entry) =>
      defer(() => {
        n += 1;
        const hit = faults.find((one) => one.kind === kind && 'record' in one && (one.record === n || (one.twice && one.record + 1 === n)));
        if (hit === undefined) return journal.write(entry);
        if ('kept' in hit && hit.kept) journal.write(entry).subscribe({ error: () => undefined });
        return throwError(() => new VfioError('VFIO_E_JOURNAL', 'the disk is full', { operation: 'write' }));
      }),
  };
}

/** How it ended. Throws where a promise was broken. */
function played({ count, version, latencyMs, windowBytes, faults }: Scenario): readonly string[] {
  const clock = virtualClock();
  const p = pair(clock, count, () => { clock.flush(); }, { migrationVersion: version }, { latencyMs });
  for (const { driver } of [...p.source, ...p.destination]) driver.faults.arcLatencyUs = 1000;
  const nobody = { source: false, destination: false };
  const before = states(p);
  const watching = watchOwners(p, before, nobody);
  const [abort, giveUp] = [new Subject<void>(), new Subject<void>()];
  const last: { source: MigrationEvent | 'failed' | undefined; destination: MigrationEvent | 'failed' | undefined } = { source: undefined, destination: undefined };
  const hear = (side: 'source' | 'destination') => ({ next: (event: MigrationEvent) => (last[side] = event), error: () => (last[side] = 'failed') });
  const left = new Set<string>();
  const destination = p.receive({ abort: giveUp, journal: failing(p.destinationJournal, faults, 'destination disk'), ...(windowBytes === undefined ? {} : { windowBytes }) }).subscribe(hear('destination'));
  const source = p.migrate({ abort, noPeerToPeer: true, journal: failing(p.sourceJournal, faults, 'source disk') }).subscribe(hear('source'));
  for (const one of faults) {
    if (one.kind === 'source arc') p.source[one.device % count]?.driver.faults.failArc(one.arc, 'EIO');
    if (one.kind === 'destination arc') p.destination[one.device % count]?.driver.faults.failArc(one.arc, 'EIO');
    if (!('atMs' in one)) continue;
    clock.scheduler.schedule(() => {
      if (one.kind === 'cut') p.transport.cut();
      else if (one.kind === 'abort') abort.next();
      else if (one.kind === 'give-up') giveUp.next();
      else {
        left.add(one.kind === 'unsubscribe' ? 'source' : 'destination');
        (one.kind === 'unsubscribe' ? source : destination).unsubscribe();
      }
    }, one.atMs);
  }
  clock.flush();

  const ends: string[] = [];
  const doubts = (['source', 'destination'] as const).filter((side) => typeof last[side] === 'object' && last[side].phase === 'in-doubt');
  const who = owners(p, before, nobody);
  if (doubts.length === 0 && left.size === 0) expect(who, 'without doubt one side runs').toHaveLength(1);
  if (doubts.length === 0) ends.push(who[0] === 'source' ? 'rolled back' : who[0] === 'destination' ? 'moved' : 'nobody told');
  else ends.push('in doubt');
  if (p.sourceJournal.entries.at(-1)?.record === 'taken-back') ends.push('taken back');
  // Both ask; a disk that was full has room again.
  if (doubts.length === 2) {
    const said: string[] = [];
    for (const side of ['destination', 'source'] as const) (last[side] as InDoubt).resolve().subscribe({ next: (one) => said.push(one), error: (error: unknown) => said.push(String(error)) });
    clock.flush();
    ends.push(`resolved: ${[...new Set(said)].sort().join(', ')}`);
    if (said.length === 2 && said[0] === said[1] && said[0]?.includes('moved') === true) expect(owners(p, before, nobody)).toEqual([said[0] === 'moved' ? 'destination' : 'source']);
  }
  if (owners(p, before, nobody)[0] === 'destination') expect(p.destination.every((one, n) => one.driver.readRegion(0, 0, 0x1000).every((byte, at) => byte === before[n]?.[at]))).toBe(true);
  watching.unsubscribe();
  return ends;
}

describe('a migration with whatever goes wrong', () => {
  it('keeps its promises', () => {
    const counts = new Map<string, number>();
    const count = (what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1);
    fc.assert(
      fc.property(scenario, (one) => {
        count(`version ${one.version}`);
        count(`${one.count} devices`);
        for (const { kind } of one.faults) count(kind);
        for (const end of played(one)) count(end);
      }),
      { numRuns: Number(process.env.VFIO_RX_MIGRATIONS ?? 400), seed: 4 },
    );
    console.log(`migrations: ${[...counts].sort().map(([what, often]) => `${what} ${often}`).join('; ')}`);
    const expected = [
      'version 1', 'version 2', ...Array.from({ length: 8 }, (_, n) => `${n + 1} devices`), 'none', 'cut', 'abort', 'unsubscribe', 'give-up', 'leave', 'source arc', 'destination arc', 'source disk', 'destination disk',
      'moved', 'rolled back', 'in doubt', 'taken back',
    ];
    for (const what of expected) expect(counts.get(what) ?? 0, what).toBeGreaterThan(0);
  });
});
