import { concatMap, defer, map } from 'rxjs';
import { VfioError } from '../errors.js';
import { disregard } from '../devices/call.js';
import type { VfioDevice } from '../devices/device.js';
import type { Call, DataChannel } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import { transition, type Arc, type TransitionOptions } from './transition.js';

/** A device that takes the state of another. */
export interface ResumingState {
  readonly device: string;
  /** The next bytes, all of them, in the order in which they were saved. One at a time (VFIO_E_BUSY). */
  write(bytes: Uint8Array): Call<void>;
  /**
   * RESUMING -> STOP: the device loads what was written, and judges it. Where it does not like it this fails (EINVAL), the session goes on, and
   * `reset` gives it up. Emits the arc when the device has stopped: loaded, and not running. VFIO_E_NO_DEVICE where somebody else has taken the
   * device out of RESUMING: what was written is not in it.
   */
  end(options?: TransitionOptions): Call<Arc>;
  /** Closes the data_fd; the device stays in its state. Idempotent, and part of `end`. */
  close(): Call<void>;
  /** Gives up: closes, and resets the device, which then runs as after power-on. Fails as `device.reset()`. */
  reset(): Call<void>;
}

/**
 * Takes a device into RESUMING, where the bytes that `savedState` read are written to it. The same for both generations of device_state.
 *
 * ```
 * state         ---[r--]------[s--]
 * resumeState   ---- --(a|)
 * a.write       ---- ----b
 * a.end         ---- ---------- --e
 * ```
 *
 * - **Emits** one `ResumingState`, which its receiver owns and ends, resets or closes; then **completes**. **Drops** nothing.
 * - **Fails** as `transition` does; with VFIO_E_BUSY where the device is in RESUMING already, for the session is somebody else's.
 * - **Releases** on unsubscribe what `transition` does: a data_fd that comes late is closed.
 *
 * @example
 * resumeState(device).subscribe((into) => into.write(Uint8Array.of(1, 2)).subscribe(() => into.end().subscribe(({ to }) => console.log(to))));
 * @see savedState, transition
 */
export function resumeState(device: VfioDevice, options: TransitionOptions = {}): Call<ResumingState> {
  return defer(() => {
    if (device.currentState.state === 'resuming') {
      throw new VfioError('VFIO_E_BUSY', 'the device is in resuming: its state is being written already', { operation: 'resumeState', device: device.name });
    }
    return transition(device, 'resuming', options).pipe(map(({ data }) => resuming(device, data)));
  });
}

function resuming(device: VfioDevice, data: DataChannel | undefined): ResumingState {
  if (data === undefined) {
    throw new VfioError('VFIO_E_PROTOCOL', 'the device went into resuming and made no session: report that to the driver\'s author', { operation: 'device_state resuming', device: device.name });
  }
  return {
    device: device.name,
    write: (bytes) => data.write(bytes),
    end: (options) =>
      steps(function* (): Steps<Arc> {
        const { state } = device.currentState;
        if (state !== 'resuming') throw new VfioError('VFIO_E_NO_DEVICE', `the device is in ${state}: it has left this session, and what was written is not loaded`, { operation: 'device_state stop', device: device.name, errno: 'ENODEV' });
        const arc = (yield transition(device, 'stop', options)) as Arc;
        disregard(data.close());
        return arc;
      }),
    close: () => data.close(),
    reset: () => data.close().pipe(concatMap(() => device.reset())),
  };
}
