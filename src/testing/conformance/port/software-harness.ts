import { realClock, type Clock } from '../../../clock.js';
import type { DevicePort } from '../../../devices/port.js';
import type { SoftwareDeviceOptions } from '../../../devices/software/options.js';
import { softwareDevice } from '../../../devices/software/software-device.js';
import { sampleFace as face, type PortHarness, type PortScript } from './harness.js';
import { atOnce } from './steps.js';

/** Which software devices the suite gets. */
export interface SoftwareHarnessOptions {
  /** Default: real time. `virtualRun` brings one on which nothing takes time. */
  readonly clock?: Clock;
  /** What else it is; it has to keep the sample driver's face. */
  readonly device?: SoftwareDeviceOptions;
  /** Puts something around each port, as it is opened: a layer of your own that has to keep the rules too. */
  readonly around?: (port: DevicePort) => DevicePort;
}

/** The harness of the software device: fresh ones, each with its own vendor driver. */
export function softwarePortHarness({ clock = realClock, device: options = {}, around = (port) => port }: SoftwareHarnessOptions = {}): PortHarness {
  const open: DevicePort[] = [];
  let opened = 0;
  return {
    patienceMs: 5000,
    briefMs: 100,
    clock,
    openPort: ({ ackTimeoutMs = 2000 } = {}) => {
      opened += 1;
      const device = softwareDevice({ ...options, name: `software${opened}`, remap: { ackTimeoutMs } });
      const { driver } = device;
      const { value: port, error } = atOnce(device.open(clock));
      if (port === undefined) return Promise.reject(new Error('a software device did not open', { cause: error }));
      open.push(port);
      const script: PortScript = {
        revoke: (region) => { driver.revoke(region); },
        restore: (region) => { driver.restore(region); },
        raiseMsi: () => { driver.raiseMsi(); },
        intx: (up) => { if (up) driver.raise(face.intx); else driver.lower(face.intx); },
        ignoreAcks: (on) => { driver.faults.ignoreAcks = on; },
        failQuery: (region, errno, times) => { driver.faults.failQuery(region, errno, times); },
        // The first capability's offset leads nowhere.
        lieAboutRegion: (region) => { driver.faults.corrupt('regionInfo', region, (bytes) => { new DataView(bytes.buffer).setUint32(12, 0xffff_fff0, true); }); },
      };
      return Promise.resolve({ port: around(port), witness: driver, script });
    },
    dispose: async () => {
      for (const port of open.splice(0)) await port[Symbol.asyncDispose]();
    },
  };
}
