import type { MigrationTraits } from '../port.js';
import type { State } from '../uapi/migration-state.js';
import { pathOf, type TargetState } from './migration-states.js';
import { pathOfV1 } from './migration-v1.js';

/**
 * The states that a device passes on its way, in the generation that it speaks; the last one is `to`, none where it is there
 * already. undefined where there is no way, and the device must not be asked: some kernels never return from a blocked one.
 */
export function wayOf({ version, flags }: MigrationTraits, from: State, to: State): readonly TargetState[] | undefined {
  return version === 1 ? pathOfV1(from, to) : pathOf(flags, from, to);
}
