import { firstValueFrom } from 'rxjs';
import { describe, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { DevicePort } from '../../src/devices/port.js';
import { describePort, type PortHarness } from '../../src/testing/index.js';
import { foreignLacks, foreignScript, interruptsWitness } from '../support/foreign-face.js';
import { Mtty } from '../support/mtty.js';

/** What the suite promises of the kernel's port holds on the kernel's own mediated device, too, as far as mtty has it. */

const loopback = 'mtty of 6.1 takes a loopback for a disable';
const early = process.env['VFIO_RX_KERNEL_SERIES'] === '6.1';

function mttyHarness(): PortHarness {
  const open: { readonly mtty: Mtty; readonly port: DevicePort }[] = [];
  return {
    patienceMs: 20_000,
    briefMs: 2000,
    readable: 0,
    lacks: {
      ...foreignLacks,
      signalWitness: 'nobody counts its eventfds',
      intx: 'its line follows what its port receives',
      ...(early ? { raiseMsi: loopback, loopback } : {}),
      log: 'mtty of 6.12 begins a log that nobody can read (LOG-3 finds it)',
    },
    openPort: async () => {
      const mtty = new Mtty();
      try {
        const port = await firstValueFrom(openKernelPort(mtty.uuid, realClock));
        open.push({ mtty, port });
        // It knows its irqs only after it has been asked how many there are.
        await firstValueFrom(port.info());
        return { port, witness: interruptsWitness(mtty.uuid), script: foreignScript(port, () => undefined) };
      } catch (error) {
        mtty[Symbol.dispose]();
        throw error;
      }
    },
    dispose: async () => {
      for (const { mtty, port } of open.splice(0)) {
        await port[Symbol.asyncDispose]();
        mtty[Symbol.dispose]();
      }
    },
  };
}

describePort({ describe, it }, 'mtty', mttyHarness());
