import type { MigrationTraits, State } from '../../src/devices/port.js';
import { statesOf } from '../../src/devices/protocol/migration-states.js';
import { wayOf } from '../../src/devices/protocol/migration-ways.js';
import type { TraceEvent } from '../../src/devices/software/trace.js';

const all: readonly State[] = ['stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p'];

/** Every single arc that a device may be seen to go. */
export function arcsOf({ version, flags }: MigrationTraits): readonly string[] {
  const states = version === 1 ? all.filter((state) => !state.endsWith('p2p')) : statesOf(flags);
  const arcs = states.flatMap((from) => states.flatMap((to) => (wayOf({ version, flags }, from, to)?.length === 1 ? [`v${version} ${from} -> ${to}`] : [])));
  return [...new Set(arcs)];
}

/** States that a device does not have, or has no way to from here. */
export function illegalFrom(traits: MigrationTraits, from: State): readonly State[] {
  return all.filter((to) => wayOf(traits, from, to) === undefined);
}

export function legalFrom(traits: MigrationTraits, from: State): readonly State[] {
  return all.filter((to) => wayOf(traits, from, to) !== undefined);
}

/** Reads what the driver saw: each arc that was gone. Throws where the driver was asked for one that is not in the table, or a device was somewhere without having gone there. */
export function arcsGone(trace: readonly TraceEvent[], traits: MigrationTraits): readonly string[] {
  const gone: string[] = [];
  let at: ReadonlySet<State> = new Set(['running']);
  let reset = false;
  for (const { event, fields } of trace) {
    if (event === 'reset') {
      at = new Set([...at, 'running']);
      reset = true;
    }
    if (event !== 'state') continue;
    const [from, to] = [fields['from'] as State, fields['to'] as State];
    const way = wayOf(traits, from, to);
    if (way === undefined) throw new Error(`the driver was asked to go from ${from} to ${to}: no such way`);
    if (!at.has(from)) throw new Error(`the device is in ${from}, and was in one of ${[...at].join(', ')}`);
    // A reset that found a write under way ended it first.
    at = fields['ret'] === '0' ? new Set([to]) : new Set([from, ...way, ...(reset ? ['running' as const] : [])]);
    reset = false;
    if (fields['ret'] === '0') gone.push(...way.map((state, n) => `v${traits.version} ${way[n - 1] ?? from} -> ${state}`));
  }
  return gone;
}
