import { catchError, EMPTY, map, merge, Subscription } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import { VfioError } from '../errors.js';
import { health } from '../streams/health.js';

/** What a side does at what its devices say by their irqs. */
export interface Heard {
  /** ERR: an uncorrectable error. */
  readonly failed: (device: VfioDevice) => void;
  /** REQ: the kernel wants the device back, and waits. It may be said more than once. */
  readonly asked: (device: VfioDevice) => void;
}

/** Listens to ERR and REQ of each device. One whose irqs are in use is its user's to steer, by `abort`; one that has none says nothing. */
export function signsOf(devices: readonly VfioDevice[], { failed, asked }: Heard): Subscription {
  const signs = devices.map((device) => health(device).pipe(catchError(() => EMPTY), map((sign) => ({ device, ...sign }))));
  return merge(...signs).subscribe({
    next: ({ device, errors, releaseRequests }) => {
      if (errors > 0n) failed(device);
      if (releaseRequests > 0n) asked(device);
    },
    error: () => undefined,
  });
}

export function failedError(operation: string, { name }: VfioDevice): VfioError {
  return new VfioError('VFIO_E_DEVICE_ERROR', 'the device says by its ERR irq that it failed: reset it', { operation, device: name });
}
