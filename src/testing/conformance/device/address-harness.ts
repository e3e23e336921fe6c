import { realClock } from '../../../clock.js';
import type { VfioDevice } from '../../../devices/device.js';
import { openDevice, type DeviceAddress } from '../../../devices/open.js';
import { Patience, type PatienceOptions } from '../patience.js';
import type { DeviceHarness } from './harness.js';

/** The harness of one device, real or not: opened for each rule, closed after it. */
export function deviceMigrationHarness(address: DeviceAddress, options: Partial<PatienceOptions & Pick<DeviceHarness, 'destructive' | 'state' | 'deadlineMs' | 'writes' | 'lacks'>> = {}): DeviceHarness {
  const { patienceMs = 30_000, clock = realClock } = options;
  const open: VfioDevice[] = [];
  return {
    ...options,
    patienceMs,
    clock,
    openDevice: async () => {
      const device = await new Patience({ patienceMs, clock }).value(openDevice(address, { clock }), 'the device');
      open.push(device);
      return device;
    },
    dispose: async () => {
      for (const device of open.splice(0)) await device.close();
    },
  };
}
