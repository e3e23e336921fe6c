import { destinationAfterRestart, destinationStep, type DestinationAct, type DestinationEvent, type DestinationPhase, type DestinationRecord } from '../../src/wire/handover-destination.js';
import { sourceAfterRestart, sourceStep, type SourceAct, type SourceEvent, type SourcePhase, type SourceRecord } from '../../src/wire/handover-source.js';

/**
 * Both machines, a disk each, and a network between them that loses what it likes, as one transition system. It begins where
 * every byte has been moved and all devices at the source stand still.
 */
export interface World {
  readonly source: SourcePhase;
  readonly sourceAlive: boolean;
  readonly sourceRuns: boolean;
  readonly sourceInDoubt: boolean;
  readonly sourceDisk: SourceRecord;
  /** What is being written, in order. */
  readonly sourceWrites: readonly SourceRecord[];
  readonly destination: DestinationPhase;
  readonly destinationAlive: boolean;
  readonly destinationRuns: boolean;
  readonly destinationInDoubt: boolean;
  readonly destinationDisk: DestinationRecord;
  readonly destinationWrites: readonly DestinationRecord[];
  readonly starting: boolean;
  readonly linkUp: boolean;
  /** Whether each side has noticed that the link is gone. */
  readonly sourceLinked: boolean;
  readonly destinationLinked: boolean;
  /** On their way; what an older link still holds may come late, or never. */
  readonly toSource: readonly string[];
  readonly toDestination: readonly string[];
  readonly lateToSource: readonly string[];
  readonly lateToDestination: readonly string[];
  readonly budget: Budget;
  /** What has happened in this history, for the promises at the end of it. */
  readonly sourceDied: boolean;
  readonly runnerDied: boolean;
  readonly broke: boolean;
  readonly everDecided: boolean;
}

/** How many faults a history may have. */
export interface Budget {
  readonly losses: number;
  readonly crashes: number;
  readonly diskFailures: number;
  readonly failures: number;
  readonly connects: number;
}

/** The machines under test; a test puts a worse pair in their place. */
export interface Machines {
  readonly source: (phase: SourcePhase, event: SourceEvent) => { readonly phase: SourcePhase; readonly acts: readonly SourceAct[] };
  readonly destination: (phase: DestinationPhase, event: DestinationEvent) => { readonly phase: DestinationPhase; readonly acts: readonly DestinationAct[] };
}

export const trueMachines: Machines = { source: sourceStep, destination: destinationStep };

export function beginning(budget: Budget): World {
  return {
    source: 'moving', sourceAlive: true, sourceRuns: false, sourceInDoubt: false, sourceDisk: 'begun', sourceWrites: [],
    destination: 'loading', destinationAlive: true, destinationRuns: false, destinationInDoubt: false, destinationDisk: 'begun', destinationWrites: [], starting: false,
    linkUp: true, sourceLinked: true, destinationLinked: true, toSource: [], toDestination: [], lateToSource: [], lateToDestination: [],
    budget, sourceDied: false, runnerDied: false, broke: false, everDecided: false,
  };
}

function withSource(world: World, event: SourceEvent, machines: Machines): World {
  const { phase, acts } = machines.source(world.source, event);
  return acts.reduce(actOfSource, { ...world, source: phase, sourceInDoubt: phase === world.source && world.sourceInDoubt });
}

function actOfSource(world: World, act: SourceAct): World {
  switch (act.act) {
    case 'record': return { ...world, sourceWrites: [...world.sourceWrites, act.record] };
    case 'send': return world.sourceLinked ? { ...world, toDestination: [...world.toDestination, act.message] } : world;
    // Devices die with their process.
    case 'run': return { ...world, sourceRuns: !world.sourceDied };
    case 'release': return world;
    case 'doubt': return { ...world, sourceInDoubt: true };
  }
}

function withDestination(world: World, event: DestinationEvent, machines: Machines): World {
  const { phase, acts } = machines.destination(world.destination, event);
  return acts.reduce(actOfDestination, { ...world, destination: phase, destinationInDoubt: phase === world.destination && world.destinationInDoubt });
}

function actOfDestination(world: World, act: DestinationAct): World {
  switch (act.act) {
    case 'record': return { ...world, destinationWrites: [...world.destinationWrites, act.record] };
    case 'send': return world.destinationLinked ? { ...world, toSource: [...world.toSource, act.message] } : world;
    case 'run': return { ...world, starting: true };
    case 'discard': return world;
    case 'doubt': return { ...world, destinationInDoubt: true };
  }
}

/** What a step is about: `fault` comes from outside, `connect` when somebody resolves, the rest by itself. */
export interface Move {
  readonly name: string;
  readonly kind: 'own' | 'fault' | 'connect';
  readonly world: World;
}

const sourceHears: Readonly<Record<string, SourceEvent>> = { prepared: 'prepared', confirmed: 'confirmed', 'never-ran': 'never-ran', abort: 'failed' };
const destinationHears: Readonly<Record<string, DestinationEvent>> = { commit: 'commit', abort: 'abort' };

/** Every step that this world can make. */
export function moves(world: World, machines: Machines): readonly Move[] {
  const found: Move[] = [];
  const add = (kind: Move['kind'], name: string, next: World): void => void found.push({ kind, name, world: next });
  const spend = (what: keyof Budget): World => ({ ...world, budget: { ...world.budget, [what]: world.budget[what] - 1 } });
  const { budget } = world;

  if (world.sourceAlive) {
    const [heard = '', ...rest] = world.toSource;
    if (heard !== '' && world.sourceLinked) add('own', `source hears ${heard}`, withSource({ ...world, toSource: rest }, sourceHears[heard] ?? 'failed', machines));
    const [late = '', ...later] = world.lateToSource;
    if (late !== '') {
      add('fault', `source hears ${late} late`, withSource({ ...world, lateToSource: later }, sourceHears[late] ?? 'failed', machines));
      add('fault', `${late} to the source never comes`, { ...world, lateToSource: later });
    }
    const [record, ...writes] = world.sourceWrites;
    if (record !== undefined) {
      const written: World = { ...world, sourceWrites: writes, sourceDisk: record, everDecided: world.everDecided || record === 'decided' };
      add('own', `source recorded ${record}`, withSource(written, 'recorded', machines));
      if (budget.diskFailures > 0) {
        const failed = { ...spend('diskFailures'), sourceWrites: writes };
        add('fault', `source could not record ${record}`, withSource(failed, 'not-recorded', machines));
        add('fault', `source was told that ${record} was not recorded, and it was`, withSource({ ...failed, sourceDisk: record }, 'not-recorded', machines));
      }
    }
    if (!world.linkUp && world.sourceLinked) {
      add('own', 'source misses the link', withSource({ ...world, sourceLinked: false, lateToSource: [...world.lateToSource, ...world.toSource], toSource: [] }, 'lost', machines));
    }
    if (budget.failures > 0) add('fault', 'source fails', withSource(spend('failures'), 'failed', machines));
    if (budget.crashes > 0) {
      for (const disk of new Set([world.sourceDisk, ...world.sourceWrites])) {
        add('fault', `source dies, ${disk} on its disk`, {
          ...spend('crashes'), sourceDisk: disk, sourceWrites: [], sourceAlive: false, sourceRuns: false, sourceInDoubt: false, sourceDied: true,
          linkUp: false, sourceLinked: false, toSource: [], lateToSource: [], everDecided: world.everDecided || disk === 'decided',
        });
      }
    }
  } else add('connect', 'source is started again', { ...world, sourceAlive: true, source: sourceAfterRestart(world.sourceDisk) });

  if (world.destinationAlive) {
    if (world.destination === 'loading') add('own', 'destination has loaded', withDestination(world, 'loaded', machines));
    const [heard = '', ...rest] = world.toDestination;
    if (heard !== '' && world.destinationLinked) add('own', `destination hears ${heard}`, withDestination({ ...world, toDestination: rest }, destinationHears[heard] ?? 'failed', machines));
    const [late = '', ...later] = world.lateToDestination;
    if (late !== '') {
      add('fault', `destination hears ${late} late`, withDestination({ ...world, lateToDestination: later }, destinationHears[late] ?? 'failed', machines));
      add('fault', `${late} to the destination never comes`, { ...world, lateToDestination: later });
    }
    const [record, ...writes] = world.destinationWrites;
    if (record !== undefined) {
      add('own', `destination recorded ${record}`, withDestination({ ...world, destinationWrites: writes, destinationDisk: record }, 'recorded', machines));
      if (budget.diskFailures > 0) {
        const failed = { ...spend('diskFailures'), destinationWrites: writes };
        add('fault', `destination could not record ${record}`, withDestination(failed, 'not-recorded', machines));
        add('fault', `destination was told that ${record} was not recorded, and it was`, withDestination({ ...failed, destinationDisk: record }, 'not-recorded', machines));
      }
    }
    if (world.starting) {
      const started = { ...world, starting: false };
      add('own', 'destination runs', withDestination({ ...started, destinationRuns: true }, 'ran', machines));
      if (budget.failures > 0) {
        const failed = { ...spend('failures'), starting: false };
        add('fault', 'destination cannot run', withDestination(failed, 'run-failed', machines));
        add('fault', 'destination runs in part', withDestination({ ...failed, destinationRuns: true, broke: true }, 'run-broke', machines));
      }
    }
    if (!world.linkUp && world.destinationLinked) {
      add('own', 'destination misses the link', withDestination({ ...world, destinationLinked: false, lateToDestination: [...world.lateToDestination, ...world.toDestination], toDestination: [] }, 'lost', machines));
    }
    if (budget.failures > 0) {
      add('fault', 'destination fails', withDestination(spend('failures'), 'failed', machines));
      add('fault', 'destination gives up', withDestination(spend('failures'), 'give-up', machines));
    }
    if (budget.crashes > 0) {
      for (const disk of new Set([world.destinationDisk, ...world.destinationWrites])) {
        add('fault', `destination dies, ${disk} on its disk`, {
          ...spend('crashes'), destinationDisk: disk, destinationWrites: [], destinationAlive: false, destinationRuns: false, destinationInDoubt: false, starting: false,
          runnerDied: world.runnerDied || disk === 'running', linkUp: false, destinationLinked: false, toDestination: [], lateToDestination: [],
        });
      }
    }
  } else add('connect', 'destination is started again', { ...world, destinationAlive: true, destination: destinationAfterRestart(world.destinationDisk) });

  if (world.linkUp && budget.losses > 0) add('fault', 'the link breaks', { ...spend('losses'), linkUp: false });
  if (!world.linkUp && world.sourceAlive && world.destinationAlive && !world.sourceLinked && budget.connects > 0) add('connect', 'they connect', connected(spend('connects'), machines));
  return found;
}

/** A new link; the destination may not have noticed yet that the old one is gone. */
export function connected(world: World, machines: Machines): World {
  const linked: World = {
    ...world, linkUp: true, sourceLinked: true, destinationLinked: true,
    lateToDestination: [...world.lateToDestination, ...world.toDestination], lateToSource: [...world.lateToSource, ...world.toSource], toDestination: [], toSource: [],
  };
  return withSource(withDestination(linked, 'connected', machines), 'connected', machines);
}
