import { realClock } from '../../src/clock.js';
import type { DevicePort } from '../../src/devices/port.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import type { DriverScript } from '../support/witness.js';
import { atOnce, face, type PortHarness } from './harness.js';

/** Fresh software devices in real time. `change` may spoil the port that a check gets to see; see `broken.test.ts`. */
export function softwareHarness(
  options: { readonly patienceMs?: number; readonly change?: (port: DevicePort) => DevicePort; readonly device?: SoftwareDeviceOptions } = {},
): PortHarness {
  const open: DevicePort[] = [];
  let opened = 0;
  return {
    patienceMs: options.patienceMs ?? 5000,
    briefMs: 30,
    openPort: ({ ackTimeoutMs = 2000 } = {}) => {
      opened += 1;
      const device = softwareDevice({ ...options.device, name: `software${opened}`, remap: { ackTimeoutMs } });
      const { driver } = device;
      const { value: port, error } = atOnce(device.open(realClock));
      if (port === undefined) throw new Error('a software device did not open', { cause: error });
      open.push(port);
      const script: DriverScript = {
        revoke: (region) => { driver.revoke(region); },
        restore: (region) => { driver.restore(region); },
        raiseMsi: () => { driver.raiseMsi(); },
        intx: (up) => { if (up) driver.raise(face.intx); else driver.lower(face.intx); },
        ignoreAcks: (on) => { driver.faults.ignoreAcks = on; },
        failQuery: (region, errno, times) => { driver.faults.failQuery(region, errno, times); },
        // The first capability's offset leads nowhere.
        lieAboutRegion: (region) => { driver.faults.corrupt('regionInfo', region, (bytes) => { new DataView(bytes.buffer).setUint32(12, 0xffff_fff0, true); }); },
      };
      return Promise.resolve({ port: options.change?.(port) ?? port, witness: driver, script });
    },
    dispose: async () => {
      for (const port of open.splice(0)) await port[Symbol.asyncDispose]();
    },
  };
}
