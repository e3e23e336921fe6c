import type { State } from '../uapi/migration-state.js';
import type { TargetState } from './migration-states.js';

/**
 * The state machine of the retired v1 interface, as values. A write of device_state is one arc there, never a way of several,
 * and its states are those of v2 without the P2P ones.
 *
 * Source: the comment on struct vfio_device_migration_info in <linux/vfio.h> before 5.18. Its diagram shows seven arcs and
 * leaves others to the driver; of those, here are the ones that give a migration up (to RUNNING, or to STOP for a user whose
 * guest is stopped), or begin one while the device is stopped. What would throw away a session without saying so, or save
 * while resuming, is no arc.
 */
const arcs: Readonly<Partial<Record<State, readonly TargetState[]>>> = {
  stop: ['running', 'stop-copy', 'resuming'],
  running: ['stop', 'stop-copy', 'resuming', 'pre-copy'],
  'stop-copy': ['stop', 'running'],
  resuming: ['stop', 'running'],
  'pre-copy': ['stop', 'running', 'stop-copy'],
};

/** The one arc from `from` to `to`; empty where the device is there already. undefined where no such write is made. */
export function pathOfV1(from: State, to: State): readonly TargetState[] | undefined {
  const reached = arcs[from];
  if (reached === undefined) return undefined;
  if (from === to) return [];
  const arc = reached.find((state) => state === to);
  return arc === undefined ? undefined : [arc];
}
