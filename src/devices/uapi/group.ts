import { answerView, viewOf } from './bytes.js';
import { VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE } from './constants.js';

/** struct vfio_group_status. */
export const groupStatusLayout = { argsz: 0, flags: 4, sizeof: 8 } as const;

/** struct vfio_group_status, read. */
export interface GroupStatus {
  /** VFIO_GROUP_FLAGS_*. */
  readonly flags: number;
  /** Every device of the group is bound to a VFIO driver, or to none. */
  readonly viable: boolean;
  /** The group is in a container already. */
  readonly containerSet: boolean;
}

const operation = 'VFIO_GROUP_GET_STATUS';

/** The argument of VFIO_GROUP_GET_STATUS. */
export function encodeGroupStatusQuery(): Uint8Array {
  const bytes = new Uint8Array(groupStatusLayout.sizeof);
  viewOf(bytes).setUint32(groupStatusLayout.argsz, bytes.length, true);
  return bytes;
}

/** Reads the answer. `group` as messages name it: `/dev/vfio/7`. Throws VFIO_E_PROTOCOL where it is cut off. */
export function readGroupStatus(bytes: Uint8Array, group?: string): GroupStatus {
  const flags = answerView(bytes, groupStatusLayout.sizeof, { operation, device: group }).getUint32(groupStatusLayout.flags, true);
  return {
    flags,
    viable: (flags & VFIO_GROUP_FLAGS_VIABLE) !== 0,
    containerSet: (flags & VFIO_GROUP_FLAGS_CONTAINER_SET) !== 0,
  };
}
