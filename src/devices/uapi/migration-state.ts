import { protocolError, type Origin } from './bytes.js';
import {
  VFIO_DEVICE_STATE_ERROR,
  VFIO_DEVICE_STATE_PRE_COPY,
  VFIO_DEVICE_STATE_PRE_COPY_P2P,
  VFIO_DEVICE_STATE_RESUMING,
  VFIO_DEVICE_STATE_RUNNING,
  VFIO_DEVICE_STATE_RUNNING_P2P,
  VFIO_DEVICE_STATE_STOP,
  VFIO_DEVICE_STATE_STOP_COPY,
} from './constants.js';

/** Every state and its number. Source: enum vfio_device_mig_state in <linux/vfio.h>. */
const numbers = {
  error: VFIO_DEVICE_STATE_ERROR,
  stop: VFIO_DEVICE_STATE_STOP,
  running: VFIO_DEVICE_STATE_RUNNING,
  'stop-copy': VFIO_DEVICE_STATE_STOP_COPY,
  resuming: VFIO_DEVICE_STATE_RESUMING,
  'running-p2p': VFIO_DEVICE_STATE_RUNNING_P2P,
  'pre-copy': VFIO_DEVICE_STATE_PRE_COPY,
  'pre-copy-p2p': VFIO_DEVICE_STATE_PRE_COPY_P2P,
} as const;

/** device_state of migration v2. */
export type State = 'error' | 'stop' | 'running' | 'stop-copy' | 'resuming' | 'running-p2p' | 'pre-copy' | 'pre-copy-p2p';

/** All states, in the order of their numbers. */
export const states: readonly State[] = (Object.keys(numbers) as State[]).sort((a, b) => numbers[a] - numbers[b]);

export function stateNumber(state: State): number {
  return numbers[state];
}

/** The state with this number. Throws VFIO_E_PROTOCOL where there is none: a newer kernel's state cannot be reasoned about. */
export function stateName(number: number, origin: Origin = { operation: 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE' }, offset = 0): State {
  const name = states.find((state) => numbers[state] === number);
  if (name === undefined) throw protocolError(origin, offset, `no device_state has the number ${number}`);
  return name;
}
