import type { Observable } from 'rxjs';
import type { VfioDevice } from '../../../devices/device.js';
import type { SoftwareVendorDriver } from '../../../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../../devices/software/options.js';

/** A stream over a device, and how to have it do its work. Every rule gets a device of its own, in virtual time. */
export interface StreamSubject<T = unknown> {
  readonly make: (device: VfioDevice) => Observable<T>;
  /** Which device it is about. */
  readonly device?: SoftwareDeviceOptions;
  /** Goes on beside it, from before it is subscribed: the remap pipeline, where the stream needs one. */
  readonly beside?: (device: VfioDevice) => Observable<unknown>;
  /** Has the device do what the stream tells of. Without it the stream acts by itself when it is subscribed. */
  readonly provoke?: (driver: SoftwareVendorDriver, device: VfioDevice) => void;
  /** Makes the next subscription fail, at once or in time. */
  readonly fail?: (driver: SoftwareVendorDriver, device: VfioDevice) => void;
  /** It completes by itself when it has told what it has to tell. Default: it goes on until the device is closed. */
  readonly completes?: boolean;
  /** It has a current value, which every subscriber gets at once. Default false. */
  readonly current?: boolean;
}

/** What some rules need: `fail` of the subject; that it has a current value. */
export type StreamNeed = 'fail' | 'current';
