import type { State } from '../uapi/migration-state.js';

/**
 * The state machine of migration v2, as values: which states a device has, which arcs lead from one to another, and
 * which of them make or end a data_fd. Source: enum vfio_device_mig_state in <linux/vfio.h>.
 */

/** VFIO_MIGRATION_*, the flags of VFIO_DEVICE_FEATURE_MIGRATION. */
export const migrationFlags = { stopCopy: 1, p2p: 2, preCopy: 4 } as const;

/** The flags that a device needs for a state. ERROR needs none: it is never a target. */
const flagsOfState: Readonly<Record<Exclude<State, 'error'>, number>> = {
  stop: migrationFlags.stopCopy,
  running: migrationFlags.stopCopy,
  'stop-copy': migrationFlags.stopCopy,
  resuming: migrationFlags.stopCopy,
  'running-p2p': migrationFlags.stopCopy | migrationFlags.p2p,
  'pre-copy': migrationFlags.stopCopy | migrationFlags.preCopy,
  'pre-copy-p2p': migrationFlags.stopCopy | migrationFlags.p2p | migrationFlags.preCopy,
};

/** A state that can be asked for. */
export type TargetState = keyof typeof flagsOfState;

/**
 * The first arc on the way from the row's state to the column's, for a device that has every state.
 * A device without one of them goes on to the arc after it. A missing entry is a way that the kernel blocks.
 */
const firstArc: Readonly<Record<TargetState, Partial<Readonly<Record<TargetState, TargetState>>>>> = {
  stop: {
    running: 'running-p2p', 'stop-copy': 'stop-copy', resuming: 'resuming',
    'running-p2p': 'running-p2p', 'pre-copy': 'running-p2p', 'pre-copy-p2p': 'running-p2p',
  },
  running: {
    stop: 'running-p2p', 'stop-copy': 'running-p2p', resuming: 'running-p2p',
    'running-p2p': 'running-p2p', 'pre-copy': 'pre-copy', 'pre-copy-p2p': 'running-p2p',
  },
  'stop-copy': { stop: 'stop', running: 'stop', resuming: 'stop', 'running-p2p': 'stop' },
  resuming: {
    stop: 'stop', running: 'stop', 'stop-copy': 'stop',
    'running-p2p': 'stop', 'pre-copy': 'stop', 'pre-copy-p2p': 'stop',
  },
  'running-p2p': {
    stop: 'stop', running: 'running', 'stop-copy': 'stop', resuming: 'stop',
    'pre-copy': 'running', 'pre-copy-p2p': 'pre-copy-p2p',
  },
  'pre-copy': {
    stop: 'running', running: 'running', 'stop-copy': 'pre-copy-p2p', resuming: 'running',
    'running-p2p': 'running', 'pre-copy-p2p': 'pre-copy-p2p',
  },
  'pre-copy-p2p': {
    stop: 'running-p2p', running: 'running-p2p', 'stop-copy': 'stop-copy', resuming: 'running-p2p',
    'running-p2p': 'running-p2p', 'pre-copy': 'pre-copy',
  },
};

/** True where a device with these flags can be asked for the state. Never for ERROR. */
export function hasState(flags: number, state: State): state is TargetState {
  if (state === 'error') return false;
  const needed = flagsOfState[state];
  return (flags & needed) === needed;
}

/** Every state that a device with these flags can be asked for. */
export function statesOf(flags: number): readonly TargetState[] {
  return (Object.keys(flagsOfState) as TargetState[]).filter((state) => hasState(flags, state));
}

/**
 * The states that a device passes on its way, the last one `to`; empty where it is there already.
 * Undefined where there is no way: a state that the device lacks, anything out of ERROR (only a reset helps), and STOP_COPY
 * back to a PRE_COPY state. A user must not ask for the latter: kernels without the fix of 2026 loop for ever on it.
 */
export function pathOf(flags: number, from: State, to: State): readonly TargetState[] | undefined {
  if (!hasState(flags, from) || !hasState(flags, to)) return undefined;
  const path: TargetState[] = [];
  for (let at: TargetState = from; at !== to; ) {
    let next = firstArc[at][to];
    while (next !== undefined && !hasState(flags, next)) next = firstArc[next][to];
    if (next === undefined) return undefined;
    path.push(next);
    at = next;
  }
  return path;
}

/** The saving group: the states in which one saving session, and its data_fd, lives. */
export function isSaving(state: State): boolean {
  return state === 'pre-copy' || state === 'pre-copy-p2p' || state === 'stop-copy';
}

/** What one arc does to data_fds. */
export interface ArcEffect {
  /** The session that ends: its data_fd answers ENODEV from then on. */
  readonly ends?: 'save' | 'resume';
  /** The session that begins: its data_fd is returned by the write of device_state that ends with this arc. */
  readonly makes?: 'save' | 'resume';
}

/** What the arc does to data_fds; an arc inside the saving group does nothing, the session goes on. */
export function arcEffect(from: State, to: State): ArcEffect {
  const before = sessionOf(from);
  const after = sessionOf(to);
  if (before === after) return {};
  return { ...(before === undefined ? {} : { ends: before }), ...(after === undefined ? {} : { makes: after }) };
}

function sessionOf(state: State): 'save' | 'resume' | undefined {
  if (isSaving(state)) return 'save';
  return state === 'resuming' ? 'resume' : undefined;
}
