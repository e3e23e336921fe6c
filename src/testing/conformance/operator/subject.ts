import type { OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../../../devices/device.js';
import type { SoftwareVendorDriver } from '../../../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../../devices/software/options.js';

/** An operator, and what it is fed with. Every rule gets a device of its own, in virtual time; an operator without one ignores it. */
export interface OperatorSubject<In, Out> {
  readonly make: (device: VfioDevice) => OperatorFunction<In, Out>;
  /** The n-th value that comes to it, from 0; each is a new one. */
  readonly input: (n: number, device: VfioDevice) => In;
  /** Which of them an output answers. */
  readonly answers: (output: Out) => number;
  /** Which device it is about. */
  readonly device?: SoftwareDeviceOptions;
  /** It answers in the frame of its input. Default true. */
  readonly atOnce?: boolean;
  /** It may swallow values. Default false. */
  readonly drops?: boolean;
  /** What came with a value (a batch, a channel of bytes) has been given back. For operators that drop values of which somebody must dispose. */
  readonly released?: (input: In) => boolean;
  /** Makes it fail at its next value. */
  readonly fail?: (driver: SoftwareVendorDriver, device: VfioDevice) => void;
}

/** What some rules need: `fail` and `released` of the subject; that it answers each value, and at once. */
export type OperatorNeed = 'fail' | 'released' | 'answer' | 'atOnce';
