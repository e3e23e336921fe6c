import { firstValueFrom } from 'rxjs';
import { realClock } from '../../../src/clock.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import type { PortHarness } from '../../../src/testing/index.js';
import type { OtherProcess } from './other-process.js';

/** A software device, served by another process: what crosses is the socket, and what its fds stand for. */
export function vfioUserHarness(other: OtherProcess): PortHarness {
  const open: DevicePort[] = [];
  return {
    patienceMs: 10_000,
    briefMs: 200,
    openPort: async ({ ackTimeoutMs = 2000 } = {}) => {
      const { path, witness, script } = other.serve({ remap: { ackTimeoutMs } });
      const port = await firstValueFrom(openUserPort(path, realClock));
      open.push(port);
      return { port, witness, script };
    },
    dispose: async () => {
      for (const port of open.splice(0)) await port[Symbol.asyncDispose]();
    },
  };
}
