import fc from 'fast-check';
import { concat, concatMap, defer, EMPTY, map, of, tap, timer, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.js';
import type { Journal } from '../../src/migration/journal.js';
import type { MigrationEvent, Resolution } from '../../src/migration/plan.js';
import { resolve } from '../../src/migration/resolve.js';
import type { Connection, Transport } from '../../src/transport/transport.js';
import { virtualClock } from '../support/virtual-clock.js';
import { mortal } from './disks.js';
import { owners, states, watchOwners, type Dead } from './owner.js';
import { pair } from './pair.js';

type SideName = 'source' | 'destination';

/** Something happens at the nth message of one side, before it is sent or when it has arrived; or inside its message, after so many bytes. */
interface Happening {
  readonly side: SideName;
  readonly message: number;
  readonly when: 'before' | 'after' | number;
  readonly what: 'cut' | 'source dies' | 'destination dies';
}

/** A transport that acts at one of its messages; each write is one. */
function acting(transport: Transport, at: number, when: Happening['when'], act: () => void, counted: (bytes: number) => void): Transport {
  let n = 0;
  const altered = (connection: Connection): Connection => ({
    name: connection.name,
    read: () => connection.read(),
    close: () => { connection.close(); },
    write: (parts) =>
      defer(() => {
        const bytes = Buffer.concat(parts);
        counted(bytes.length);
        if ((n += 1) - 1 !== at) return connection.write(parts);
        if (when === 'before') {
          act();
          return connection.write(parts);
        }
        return connection.write([when === 'after' ? bytes : bytes.subarray(0, when)]).pipe(tap(act));
      }),
  });
  return { name: transport.name, open: (clock) => transport.open(clock).pipe(map(altered)) };
}

/** A disk that takes its time. */
function slow(journal: Journal, clock: Clock): Journal {
  return { name: journal.name, read: () => journal.read(), write: (entry) => timer(2, clock.scheduler).pipe(concatMap(() => journal.write(entry))) };
}

interface Run {
  /** How many bytes each message of a side has. */
  readonly sent: Record<SideName, readonly number[]>;
  readonly outcome: string;
}

function run(happening: Happening | undefined, count: number): Run {
  const clock = virtualClock();
  // What was written arrives in the same turn as the act that follows it, or is lost with the cut.
  const p = pair(clock, count, () => { clock.flush(); });
  const dead: Dead = { source: false, destination: false };
  const before = states(p);
  const watching = watchOwners(p, before, dead);
  const sent: Record<SideName, number[]> = { source: [], destination: [] };
  const act = (): void => {
    if (happening?.what === 'source dies') dead.source = true;
    if (happening?.what === 'destination dies') dead.destination = true;
    if (happening?.when !== 'before') clock.scheduler.schedule(() => { p.transport.cut(); }, 0);
    else p.transport.cut();
  };
  const end = (side: SideName, transport: Transport): Transport =>
    acting(transport, happening?.side === side ? happening.message : -1, happening?.when ?? 'before', act, (bytes) => sent[side].push(bytes));
  const last: Record<SideName, MigrationEvent | 'failed' | undefined> = { source: undefined, destination: undefined };
  const hear = (side: SideName) => ({ next: (event: MigrationEvent) => (last[side] = event), error: () => (last[side] = 'failed') });
  p.receive({ transport: end('destination', p.transport.listening), journal: mortal(p.destinationJournal, () => dead.destination) }).subscribe(hear('destination'));
  p.migrate({ transport: end('source', p.transport.connecting), journal: mortal(p.sourceJournal, () => dead.source), deadlines: { check: 1000, commit: 1000 } }).subscribe(hear('source'));
  clock.flush();

  // None running is only allowed in doubt, or when somebody died.
  const inDoubt = (side: SideName): boolean => !dead[side] && typeof last[side] === 'object' && last[side].phase === 'in-doubt';
  const doubtful = inDoubt('source') || inDoubt('destination');
  const somebodyDied = dead.source || dead.destination;
  if (!doubtful && !somebodyDied) expect(owners(p, before, dead)).toHaveLength(1);
  if (!doubtful && !somebodyDied) return { sent, outcome: owners(p, before, dead)[0] === 'source' ? 'rolled back' : 'moved' };

  const said: Resolution[] = [];
  const ask = (side: SideName, journal: Journal, transport: Transport): Observable<unknown> => {
    const event = last[side];
    const asked = !dead[side] && typeof event === 'object' && event.phase === 'in-doubt' ? event.resolve(transport) : journal.read().pipe(concatMap((entry) => (entry === undefined ? EMPTY : resolve({ journal: slow(journal, clock), transport, clock, deadlineMs: 2000 }))));
    return asked.pipe(tap((one) => said.push(one)));
  };
  const both = (): void => {
    for (const asked of [ask('destination', p.destinationJournal, p.transport.listening), ask('source', p.sourceJournal, p.transport.connecting)]) {
      concat(asked, of(undefined)).subscribe({ error: (error: unknown) => said.push(String(error) as Resolution) });
    }
    clock.flush();
  };
  both();
  const about = JSON.stringify([happening, said, p.sourceJournal.entries.map(({ record }) => record), p.destinationJournal.entries.map(({ record }) => record)]);
  const who = owners(p, before, dead);
  const resolutions = new Set(said);
  // Where one side never wrote a word there is nobody to ask.
  if (p.sourceJournal.entries.length > 0 && p.destinationJournal.entries.length > 0) expect([...resolutions], about).toHaveLength(1);
  if (!somebodyDied) expect(who, about).toEqual([resolutions.has('moved') ? 'destination' : 'source']);
  if (dead.source) expect(who, about).toEqual(resolutions.has('moved') ? ['destination'] : []);
  if (dead.destination) expect(who, about).toEqual(resolutions.has('moved') ? [] : ['source']);
  watching.unsubscribe();
  return { sent, outcome: `${somebodyDied ? 'died' : 'in doubt'}, ${[...resolutions].join()}` };
}

describe.each([1, 3])('at every message of a migration of %i devices', (count) => {
  it.each(['cut', 'source dies', 'destination dies'] as const)('%s: it ends as it was promised', (what) => {
    const { sent, outcome } = run(undefined, count);
    expect(outcome).toBe('moved');
    const outcomes = new Map<string, number>();
    for (const side of ['source', 'destination'] as const) {
      for (let message = 0; message < sent[side].length; message += 1) {
        for (const when of ['before', 'after'] as const) {
          const { outcome: how } = run({ side, message, when, what }, count);
          outcomes.set(how, (outcomes.get(how) ?? 0) + 1);
        }
      }
    }
    console.log(`${what}, ${count} devices, ${sent.source.length} and ${sent.destination.length} messages: ${[...outcomes].map(([how, often]) => `${how} ${often}`).join('; ')}`);
    const expected = { cut: ['rolled back', 'in doubt, moved', 'in doubt, not-moved', 'moved'], 'source dies': ['died, moved', 'died, not-moved'], 'destination dies': ['died, moved', 'died, not-moved'] }[what];
    for (const one of expected) expect([...outcomes.keys()]).toContain(one);
  });

  it('the connection cut after 200 random numbers of bytes in each direction: it ends as it was promised', () => {
    const { sent } = run(undefined, count);
    const outcomes = new Map<string, number>();
    for (const side of ['source', 'destination'] as const) {
      const total = sent[side].reduce((sum, bytes) => sum + bytes, 0);
      for (const offset of fc.sample(fc.nat({ max: total - 1 }), { numRuns: 200, seed: 9 })) {
        let message = 0;
        let left = offset;
        for (; left >= (sent[side][message] ?? 0); message += 1) left -= sent[side][message] ?? 0;
        const { outcome } = run({ side, message, when: left === 0 ? 'before' : left, what: 'cut' }, count);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    }
    console.log(`cut at random bytes, ${count} devices: ${[...outcomes].map(([how, often]) => `${how} ${often}`).join('; ')}`);
    expect([...outcomes.keys()]).toEqual(expect.arrayContaining(['rolled back', 'in doubt, moved', 'in doubt, not-moved']));
  });
});
