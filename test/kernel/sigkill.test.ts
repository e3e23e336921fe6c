import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

const kills = 50;
/** Users that live side by side: their start takes longer than their life. */
const sideBySide = 4;

/** A few rounds of the user's loop: a kill falls into opening, registering, a blocked write, a batch, or between. */
const longestLifeMs = 60;

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

/** Lets a user live for a while and kills it; answers what the driver had seen of it just before and just after. */
async function killedUser(mdev: SampleMdev, lifeMs: number): Promise<{ readonly before: Readonly<Record<string, number>>; readonly after: Readonly<Record<string, number>> }> {
  const program = join(process.env['VFIO_RX_CHILDREN'] ?? '', 'test/kernel/user.child.mjs');
  const user = spawn(process.execPath, [program, mdev.uuid], { stdio: ['ignore', 'pipe', 'inherit'] });
  const gone = once(user, 'exit');
  await Promise.race([once(createInterface(user.stdout), 'line'), gone]);
  // The point of the kill is a matter of time by nature: it is what this test draws at random.
  await pause(lifeMs);
  const before = mdev.held();
  user.kill('SIGKILL');
  await gone;
  return { before, after: mdev.held() };
}

describe('a user that is killed', () => {
  it(`leaves nothing behind, at ${kills} random points`, { timeout: 400_000 }, async () => {
    console.log(`seed ${seed} (VFIO_RX_SEED repeats it)`);
    const next = random(seed);
    const lives = Array.from({ length: kills }, () => next() * longestLifeMs);
    const seen: Readonly<Record<string, number>>[] = [];
    const worker = async (): Promise<void> => {
      for (let lifeMs = lives.pop(); lifeMs !== undefined; lifeMs = lives.pop()) {
        using mdev = new SampleMdev();
        const { before, after } = await killedUser(mdev, lifeMs);
        seen.push(before);
        expect(after, `after ${lifeMs} ms, seed ${seed}`).toEqual(nothingHeld);
      }
    };
    await Promise.all(Array.from({ length: sideBySide }, worker));
    expect(seen).toHaveLength(kills);
    // The kills hit what they were meant to hit: every user had the device open, and some were in a blocked write.
    expect(seen.every((held) => held['opens'] === 1)).toBe(true);
    console.log(`killed with a write blocked: ${seen.filter((held) => held['waiters'] === 1).length} of ${kills}`);
  });
});
