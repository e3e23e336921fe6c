import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { join } from 'node:path';
import type { Spot } from './acting.js';
import { sideProgram, TwoProcesses, type Incident, type SideName } from './two-processes.js';

/** Every message, and 200 places in the bytes of each direction; else a fixed sample: in virtual time each message has its turn in every run. */
const all = process.env['VFIO_RX_MESSAGES'] === 'all';

/** For a few runs on a busy machine: only against one that does not end, ms. */
const patienceMs = 300_000;

const sides = ['source', 'destination'] as const;

/** A few at a time: a process spends most of its life in starting. */
async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const left = [...items];
  await Promise.all([0, 1].map(async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  }));
}

/** What is said by one side is heard by the other: either may die of it, and the one that says it may break the connection. */
function incidents(speaker: SideName, at: Spot['at']): readonly Incident[] {
  const listener = speaker === 'source' ? 'destination' : 'source';
  return [
    { side: speaker, act: { way: 'says', at, what: 'cut' } },
    { side: speaker, act: { way: 'says', at, what: 'die' } },
    { side: listener, act: { way: 'hears', at, what: 'die' } },
  ];
}

function atMessages(said: Readonly<Record<SideName, readonly number[]>>): readonly Incident[] {
  return sides.flatMap((speaker) => {
    const count = said[speaker].length;
    // What begins and ends each direction, unless all are wanted: the hello or welcome, and what the commit is made of.
    const messages = [...said[speaker].keys()].filter((message) => all || (speaker === 'source' ? message === 0 || message === count - 1 : message >= count - 2));
    return messages.flatMap((message) => (['before', 'after'] as const).flatMap((when) => incidents(speaker, { message, when })));
  });
}

function atBytes(said: Readonly<Record<SideName, readonly number[]>>): readonly Incident[] {
  return sides.flatMap((speaker) => {
    const total = said[speaker].reduce((sum, bytes) => sum + bytes, 0);
    return fc.sample(fc.nat({ max: total - 1 }), { numRuns: all ? 200 : 3, seed: 9 }).flatMap((byte) => incidents(speaker, { byte }));
  });
}

describe('two processes over TCP, with their journals on disk', () => {
  let two: TwoProcesses;
  let said: Readonly<Record<SideName, readonly number[]>>;

  beforeAll(async () => {
    two = new TwoProcesses(await sideProgram('side.child.mjs'));
    const calm = await two.play({ side: 'source' });
    expect(calm.outcome).toBe('moved');
    said = calm.said;
  }, patienceMs);

  afterAll(() => two.clear());

  it.each([['message', atMessages], ['byte', atBytes]] as const)('cut, and either one killed, at each %s: it ends as it was promised', async (what, places) => {
    const outcomes = new Map<string, number>();
    const list = places(said);
    await each(list, async (incident) => {
      const { outcome } = await two.play(incident);
      const [way, end] = [incident.act?.what === 'cut' ? 'cut' : incident.act?.way === 'says' ? 'killed saying' : 'killed hearing', outcome];
      outcomes.set(`${way}: ${end}`, (outcomes.get(`${way}: ${end}`) ?? 0) + 1);
    });
    console.log(`two processes, ${list.length} runs, at each ${what} (${said.source.length} messages of ${said.source.reduce((a, b) => a + b, 0)} bytes, ${said.destination.length} of ${said.destination.reduce((a, b) => a + b, 0)}): ${[...outcomes].sort().map(([how, often]) => `${how} ${often}`).join('; ')}`);
    const expected = what === 'byte' ? ['cut: rolled back', 'killed saying: died, not-moved', 'killed hearing: died, not-moved'] : [
      'cut: rolled back', 'cut: in doubt, moved', 'cut: in doubt, not-moved', 'cut: moved',
      'killed saying: died, moved', 'killed saying: died, not-moved', 'killed hearing: died, moved', 'killed hearing: died, not-moved',
    ];
    expect(expected.filter((one) => !outcomes.has(one)), 'never came up').toEqual([]);
  }, 3_600_000);

  it('the naive order has two running under the same test', async () => {
    const naive = new TwoProcesses(await sideProgram('naive.child.mjs', join(import.meta.dirname, '..', 'wire', 'naive-order.ts')));
    const failures: string[] = [];
    const calm = await naive.play({ side: 'source' });
    const prepared = calm.said.destination.length - 2;
    const tried = incidents('destination', { message: prepared, when: 'before' });
    await each(tried, async (incident) => {
      await naive.play(incident).catch((error: unknown) => failures.push(String(error)));
    });
    naive.clear();
    console.log(`the naive order: ${calm.outcome} without a fault; of ${tried.length} with one, ${failures.length} broke a promise`);
    expect(calm.outcome).toBe('moved');
    expect(failures.filter((failure) => failure.includes('two sides run'))).not.toEqual([]);
  }, patienceMs);
});
