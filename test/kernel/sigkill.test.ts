import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** Where a user is when its clock starts; its last words say so (user.child.ts). */
type Place = 'opening' | 'serving' | 'holding';

/** How many users die in each place. The first ones serve: they tell how long opening takes on this machine. */
const kills: readonly (readonly [Place, number])[] = [['serving', 15], ['opening', 20], ['holding', 15]];
const allKills = kills.reduce((sum, [, count]) => sum + count, 0);
/** Users that live side by side: their start takes longer than their life. */
const sideBySide = 4;

/** A few rounds of the user's loop: a kill falls into a blocked write, a batch, or between. */
const longestLifeMs = 60;

/** The vendor driver must not give up before a user that holds a batch is dead. */
const patientMs = 120_000;

const seed = Number(process.env['VFIO_RX_SEED'] ?? Date.now() % 1_000_000);

/** Small, seeded, good enough to spread kills (mulberry32). */
function random(state: number): () => number {
  let a = state >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Killed {
  readonly place: Place;
  /** What the driver had seen of the user just before and just after the kill. */
  readonly before: Readonly<Record<string, number>>;
  readonly after: Readonly<Record<string, number>>;
  /** It had said so before it was killed. */
  readonly served: boolean;
  /** From the beginning of opening to serving, ms; 0 where it did not come so far. */
  readonly openingMs: number;
}

/** Lets a user come to a place, live on for a while, and kills it. */
async function killedUser(mdev: SampleMdev, place: Place, lifeMs: number): Promise<Killed> {
  const program = join(process.env['VFIO_RX_CHILDREN'] ?? '', 'test/kernel/user.child.mjs');
  const user = spawn(process.execPath, [program, mdev.uuid, place === 'holding' ? 'hold' : 'serve'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = once(user, 'exit');
  const atMs = new Map<string, number>();
  const there = new Promise<void>((resolve) => {
    createInterface(user.stdout).on('line', (line) => {
      atMs.set(line, performance.now());
      if (line === place) resolve();
    });
  });
  await Promise.race([there, gone]);
  // The point of the kill is a matter of time by nature: it is what this test draws at random.
  await pause(lifeMs);
  const before = mdev.held();
  const served = atMs.has('serving');
  user.kill('SIGKILL');
  await gone;
  return { place, before, after: mdev.held(), served, openingMs: served ? (atMs.get('serving') ?? 0) - (atMs.get('opening') ?? 0) : 0 };
}

describe('a user that is killed', () => {
  it(`leaves nothing behind, at ${allKills} random points`, { timeout: 400_000 }, async () => {
    console.log(`seed ${seed} (VFIO_RX_SEED repeats it)`);
    const next = random(seed);
    const lives = kills.flatMap(([place, count]) => Array.from({ length: count }, () => ({ place, part: next() })));
    const seen: Killed[] = [];
    // Of the quickest: most kills then fall before the end of it.
    const openingMs = () => Math.min(...seen.map((killed) => killed.openingMs).filter((ms) => ms > 0));
    const worker = async (): Promise<void> => {
      for (let life = lives.shift(); life !== undefined; life = lives.shift()) {
        using mdev = new SampleMdev({ ackTimeoutMs: patientMs });
        const lifeMs = life.part * (life.place === 'opening' ? openingMs() : longestLifeMs);
        const killed = await killedUser(mdev, life.place, lifeMs);
        seen.push(killed);
        expect(killed.after, `${life.place}, after ${lifeMs} ms, seed ${seed}`).toEqual(nothingHeld);
      }
    };
    await Promise.all(Array.from({ length: sideBySide }, worker));
    expect(seen).toHaveLength(allKills);
    const of = (place: Place) => seen.filter((killed) => killed.place === place);
    const early = seen.filter(({ served }) => !served);
    const opened = early.filter(({ before }) => before['opens'] === 1);
    const blocked = seen.filter(({ before }) => before['waiters'] === 1);
    console.log(`killed before serving: ${early.length}, of these with the device open: ${opened.length}; with a write blocked: ${blocked.length}; opening took ${Math.round(openingMs())} ms`);
    // The kills hit what they were meant to hit.
    expect([...of('serving'), ...of('holding')].every(({ before }) => before['opens'] === 1)).toBe(true);
    expect(of('holding').every(({ before }) => before['waiters'] === 1)).toBe(true);
    expect(early.length).toBeGreaterThan(0);
  });
});
