import { describe, expect, it } from 'vitest';
import { beginning, connected, moves, trueMachines, type Budget, type Machines, type World } from './handover-model.js';
import { destinationStep } from '../../src/wire/handover-destination.js';
import { sourceStep } from '../../src/wire/handover-source.js';
import { destinationStep as naiveDestination, sourceStep as naiveSource } from './naive-order.js';

const noFaults: Budget = { losses: 0, crashes: 0, diskFailures: 0, failures: 0, connects: 0 };

interface Found {
  readonly worlds: number;
  /** In which nothing happens any more unless something comes from outside. */
  readonly resting: readonly World[];
  readonly twoRun: readonly (readonly string[])[];
}

/** Every world that can be reached, with the way to the first ones in which two run. */
function explore(budget: Budget, machines: Machines): Found {
  const start = beginning(budget);
  const cameBy = new Map<string, readonly [string, string] | undefined>([[JSON.stringify(start), undefined]]);
  const queue: World[] = [start];
  const resting: World[] = [];
  const twoRun: (readonly string[])[] = [];
  for (let world = queue.pop(); world !== undefined; world = queue.pop()) {
    const key = JSON.stringify(world);
    if (world.sourceRuns && world.destinationRuns && twoRun.length < 3) twoRun.push(way(key));
    const next = moves(world, machines);
    if (next.every(({ kind }) => kind !== 'own')) resting.push(world);
    for (const { name, world: reached } of next) {
      const reachedKey = JSON.stringify(reached);
      if (cameBy.has(reachedKey)) continue;
      cameBy.set(reachedKey, [key, name]);
      queue.push(reached);
    }
  }
  function way(key: string): readonly string[] {
    const step = cameBy.get(key);
    return step === undefined ? [] : [...way(step[0]), step[1]];
  }
  return { worlds: cameBy.size, resting, twoRun };
}

/** Lets everything that can happen by itself happen, in one order. */
function settle(world: World, machines: Machines): World {
  const [own] = moves(world, machines).filter(({ kind }) => kind === 'own');
  return own === undefined ? world : settle(own.world, machines);
}

/** Both are started again if they died, and connect without any fault. */
function resolved(world: World, machines: Machines): World {
  const revived = moves({ ...world, budget: noFaults, lateToDestination: [], lateToSource: [] }, machines).filter(({ name }) => name.endsWith('again'));
  const [one] = revived;
  if (one !== undefined) return resolved(one.world, machines);
  const parted = settle({ ...world, budget: noFaults, linkUp: false, lateToDestination: [], lateToSource: [] }, machines);
  return settle(connected({ ...parted, lateToDestination: [], lateToSource: [] }, machines), machines);
}

const naive: Machines = { source: naiveSource, destination: naiveDestination };

const budgets: readonly Budget[] = [
  { losses: 2, crashes: 0, diskFailures: 0, failures: 1, connects: 2 },
  { losses: 1, crashes: 1, diskFailures: 1, failures: 0, connects: 1 },
  { losses: 0, crashes: 2, diskFailures: 0, failures: 1, connects: 1 },
  { losses: 0, crashes: 0, diskFailures: 2, failures: 1, connects: 1 },
  { losses: 2, crashes: 1, diskFailures: 0, failures: 0, connects: 2 },
];

describe('the handover', () => {
  it('without a fault ends with the destination running and the source released', () => {
    const { resting, worlds } = explore(noFaults, trueMachines);
    expect(worlds).toBeGreaterThan(5);
    expect(resting).toHaveLength(1);
    expect(resting[0]).toMatchObject({ source: 'moved', sourceRuns: false, destination: 'ran', destinationRuns: true, sourceInDoubt: false });
  });

  it.each(budgets)('keeps its promises in every interleaving of %o', (budget) => {
    const { worlds, resting, twoRun } = explore(budget, trueMachines);
    expect(twoRun).toEqual([]);
    const counts = { worlds, resting: resting.length, moved: 0, kept: 0, takenBack: 0, inDoubt: 0, noneRunning: 0 };
    for (const world of resting) {
      if (world.destinationRuns && world.source === 'moved') counts.moved += 1;
      if (world.sourceRuns) counts.kept += 1;
      if (world.sourceRuns && world.sourceDisk === 'taken-back') counts.takenBack += 1;
      if (world.sourceInDoubt || world.destinationInDoubt) counts.inDoubt += 1;
      // Before the decision everything ends with the source running, unless it died itself or its disk is to be seen to.
      if (!world.everDecided && !world.sourceDied && world.source !== 'stuck') expect(world).toMatchObject({ sourceRuns: true });
      if (world.sourceRuns || world.destinationRuns) continue;
      counts.noneRunning += 1;
      expect(world.sourceInDoubt || world.destinationInDoubt || world.sourceDied || world.runnerDied, JSON.stringify(world)).toBe(true);
    }
    console.log(`handover ${JSON.stringify(budget)}: ${JSON.stringify(counts)}`);
    for (const [what, count] of Object.entries(counts)) if (what !== 'takenBack') expect(count, what).toBeGreaterThan(0);
    if (budget.crashes > 0 || budget.failures > 0) expect(counts.takenBack).toBeGreaterThan(0);
  });

  it.each(budgets)('is resolved by one connection that holds, after %o', (budget) => {
    const { resting } = explore(budget, trueMachines);
    for (const world of resting) {
      const end = resolved(world, trueMachines);
      const about = JSON.stringify([world, end]);
      expect(end.sourceRuns && end.destinationRuns, about).toBe(false);
      expect(end.sourceInDoubt || end.destinationInDoubt, about).toBe(false);
      if (!end.sourceDied && !end.runnerDied) expect(end.sourceRuns || end.destinationRuns, about).toBe(true);
      expect(['moved', 'kept'], about).toContain(end.source);
      expect(['ran', 'discarded', 'forgotten'], about).toContain(end.destination);
    }
  });

  it('in the naive order has two running, and the way there is short', () => {
    expect(explore(noFaults, naive).twoRun).toEqual([]);
    const { twoRun } = explore({ ...noFaults, losses: 1 }, naive);
    expect(twoRun.length).toBeGreaterThan(0);
    console.log(`the naive order: ${twoRun[0]?.join(' -> ') ?? ''}`);
    expect(twoRun.flat()).toContain('the link breaks');
  });

  it('would be seen to run twice if either rule of it were left out', () => {
    const budget = { ...noFaults, losses: 1, crashes: 1, connects: 1, failures: 1 };
    // The source takes a lost link for a failure even after COMMIT.
    const hasty: Machines = { ...trueMachines, source: (phase, event) => (phase === 'decided' && event === 'lost' ? { phase: 'kept', acts: [{ act: 'run' }] } : sourceStep(phase, event)) };
    expect(explore(budget, hasty).twoRun).not.toEqual([]);
    // The destination says that it never ran, and goes on waiting.
    const fickle: Machines = {
      ...trueMachines,
      destination: (phase, event) => (phase === 'prepared' && event === 'give-up' ? { phase, acts: [{ act: 'send', message: 'never-ran' }] } : destinationStep(phase, event)),
    };
    expect(explore(budget, fickle).twoRun).not.toEqual([]);
    // The destination runs before its disk says so, and having died says that it never ran.
    const forgetful: Machines = {
      ...trueMachines,
      destination: (phase, event) => (phase === 'prepared' && event === 'commit' ? { phase: 'running', acts: [{ act: 'run' }] } : destinationStep(phase, event)),
    };
    expect(explore({ ...budget, crashes: 2 }, forgetful).resting.some(({ sourceDisk, destination, runnerDied, sourceRuns }) => sourceDisk === 'taken-back' && destination === 'discarded' && !runnerDied && sourceRuns)).toBe(true);
  });
});
