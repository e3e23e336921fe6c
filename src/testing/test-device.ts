import type { Clock } from '../clock.js';
import type { VfioDevice } from '../devices/device.js';
import { openDevice } from '../devices/open.js';
import type { SoftwareVendorDriver } from '../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../devices/software/options.js';
import { softwareDevice } from '../devices/software/software-device.js';
import { driverAction } from './driver-script.js';
import type { FrameScheduler } from './frame-scheduler.js';
import { parseMarbles } from './marble-parser.js';
import type { Doing } from './sources.js';

/** A software device, and what its vendor driver does on its own. */
export interface TestDeviceOptions extends SoftwareDeviceOptions {
  /** The driver's lane: `'--<revoke0>---<restore0>'`, with faults such as `<drop-ack>`; docs/marbles.md has all words. */
  readonly driver?: string;
}

/** An open device on virtual time, with its vendor driver: script and witness. */
export type TestDevice = VfioDevice & { readonly driver: SoftwareVendorDriver };

/** Opens the device at once: all that opening asks of a software device falls due in the frame in which it was asked. */
export function testDevice(scheduler: FrameScheduler, clock: Clock, options: TestDeviceOptions, stall: (duration: string) => void): [TestDevice, Doing] {
  const { driver: script = '', ...shape } = options;
  const software = softwareDevice(shape);
  const { driver } = software;
  const acts = parseMarbles(script, 'lane', scheduler.unit).map(({ frame, name }) => ({ frame, act: driverAction(name, driver, stall) }));

  const opened: VfioDevice[] = [];
  const failed: unknown[] = [];
  openDevice(software, { clock }).subscribe({ next: (device) => opened.push(device), error: (error: unknown) => failed.push(error) });
  scheduler.settle();
  if (failed.length > 0) throw failed[0];
  const [device] = opened;
  if (device === undefined) throw new Error(`${software.name} did not open within frame ${scheduler.frame}`);

  const play = (): void => {
    for (const { frame, act } of acts) scheduler.atFrame(frame, act);
  };
  return [Object.assign(device, { driver }), play];
}
