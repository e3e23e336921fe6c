import type { Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { StateView } from '../devices/state-writer.js';

/**
 * device_state, as far as this device was told to change it.
 *
 * ```
 * state         --[p-------]----     the write to PRE_COPY is blocked between the brackets
 * deviceState   r-g -------p----     g: running, going to PRE_COPY
 * ```
 *
 * - **Emits** the current `StateView` at once, then at every beginning and end of a write; every subscriber sees the same order.
 * - **Drops** nothing. **Completes** when the device is closed. **Fails** never. **Releases** nothing.
 *
 * @example
 * deviceState(device).subscribe(({ state, going }) => console.log(state, going));
 * @see transition
 */
export function deviceState(device: VfioDevice): Observable<StateView> {
  return device.state;
}
