import { defer, map, of, throwError } from 'rxjs';
import { realClock, type Clock } from '../../../clock.js';
import type { DevicePort } from '../../../devices/port.js';
import type { SoftwareVendorDriver } from '../../../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../../devices/software/options.js';
import { softwareDevice } from '../../../devices/software/software-device.js';
import { sampleFace } from '../port/harness.js';
import { deviceMigrationHarness } from './address-harness.js';
import type { DeviceHarness } from './harness.js';

/** Which software device is checked. */
export interface SoftwareMigrationOptions {
  /** Default: real time. `virtualRun` brings one on which nothing takes time. */
  readonly clock?: Clock;
  /** What it is; it keeps a log of written pages unless this says something else. */
  readonly device?: SoftwareDeviceOptions;
  /** Puts something around its port. */
  readonly around?: (port: DevicePort) => DevicePort;
  /** Has its driver misbehave. */
  readonly driver?: (driver: SoftwareVendorDriver) => void;
}

/** A part of the sample driver's state, kernel and software alike: what stands in its trapped region. */
export const sampleState: NonNullable<DeviceHarness['state']> = {
  change: (device, seed) => device.port.access({ region: sampleFace.trapped, offset: 0x100, write: new Uint8Array(64).fill(seed) }),
  look: (device) => device.port.access({ region: sampleFace.trapped, offset: 0x100, readBytes: 64 }),
};

/** The harness of the software device. */
export function softwareMigrationHarness({ clock = realClock, device: options = {}, around = (port) => port, driver: misbehave }: SoftwareMigrationOptions = {}): DeviceHarness {
  const software = softwareDevice({ dmaLogging: 4096, ...options });
  misbehave?.(software.driver);
  const source = { open: (on: Clock) => software.open(on).pipe(map(around)) };
  return deviceMigrationHarness(source, {
    patienceMs: 5000,
    deadlineMs: 1000,
    clock,
    destructive: true,
    state: sampleState,
    writes: (_, iova, bytes) => defer(() => (software.driver.dma.write(iova, new Uint8Array(bytes)) ? of(undefined) : throwError(() => new Error('the IOMMU did not let it write')))),
  });
}
