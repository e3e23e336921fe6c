import { firstValueFrom } from 'rxjs';
import { describe, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { DevicePort } from '../../src/devices/port.js';
import { describePort, type PortHarness } from '../../src/testing/index.js';
import { foreignLacks, foreignScript, interruptsWitness } from '../support/foreign-face.js';
import { VfioPci } from '../support/pci.js';

/** What the suite promises of the kernel's port holds on a real PCI function of vfio-pci, too, as far as edu has it. */

/** Registers of BAR 0 that raise an interrupt and take it back; see edu.test.ts. */
const raise = 0x60;
const acknowledge = 0x64;

function writeRegister(port: DevicePort, offset: number, value: number): void {
  const write = new Uint8Array(4);
  new DataView(write.buffer).setUint32(0, value, true);
  port.accessNow({ region: 0, offset, write });
}

function eduHarness(): PortHarness {
  const open: { readonly pci: VfioPci; readonly port: DevicePort }[] = [];
  return {
    patienceMs: 20_000,
    briefMs: 2000,
    readable: 0,
    lacks: foreignLacks,
    openPort: async () => {
      const pci = VfioPci.edu();
      try {
        const port = await firstValueFrom(openKernelPort(pci.address, realClock));
        open.push({ pci, port });
        // A reset does not take back what the last check raised.
        writeRegister(port, acknowledge, 0xffff_ffff);
        const intx = (up: boolean): void => writeRegister(port, up ? raise : acknowledge, 1);
        return { port, witness: interruptsWitness(pci.address), script: foreignScript(port, intx) };
      } catch (error) {
        pci[Symbol.dispose]();
        throw error;
      }
    },
    dispose: async () => {
      for (const { pci, port } of open.splice(0)) {
        await port[Symbol.asyncDispose]();
        pci[Symbol.dispose]();
      }
    },
  };
}

describePort({ describe, it }, 'edu', eduHarness());
