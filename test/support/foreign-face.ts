import { readFileSync } from 'node:fs';
import { sampleFace, type PortHarness, type PortScript, type PortWitness } from '../../src/testing/index.js';
import type { DevicePort } from '../../src/devices/port.js';

/** What the port suite does without on a device that is not the sample driver's. */
const notItsOwn = 'only the sample driver can be made to do that';

/** What no device but the sample driver's has of the suite's needs. */
export const foreignLacks = {
  remap: 'its driver demands no remaps',
  mappings: 'its regions are registers: nothing of what is written to them need stay',
  failQuery: notItsOwn,
  lieAboutRegion: notItsOwn,
  unmaskWitness: 'nobody counts the eventfds that the kernel listens to',
  vectors: 'its MSI has one vector',
} satisfies PortHarness['lacks'];

/** Its MSI comes by the kernel's own loopback, one signal for each; of MSIs that the device sends in a row the emulated processor drops some. */
export function foreignScript(port: DevicePort, intx: PortScript['intx']): PortScript {
  const impossible = (): never => {
    throw new Error(notItsOwn);
  };
  const raiseMsi = (): void => {
    let failed: unknown;
    port.setIrqs({ index: sampleFace.msi.index, action: 'trigger', data: 'none', count: 1 }).subscribe({ error: (error: unknown) => { failed = error; } }).unsubscribe();
    if (failed !== undefined) throw failed as Error;
  };
  return { raiseMsi, intx, revoke: impossible, restore: impossible, ignoreAcks: impossible, failQuery: impossible };
}

/** What the kernel itself counts: the interrupts that vfio-pci has requested for this function. */
export function interruptsWitness(address: string): PortWitness {
  const unseen = (): never => {
    throw new Error('nobody sees that of this device');
  };
  return {
    get irqs() {
      return readFileSync('/proc/interrupts', 'utf8').split('\n').filter((line) => line.includes('vfio-') && line.includes(`(${address})`)).length;
    },
    trace: [],
    get opens() { return unseen(); },
    get vmas() { return unseen(); },
    get waiters() { return unseen(); },
    get sent() { return unseen(); },
    get acked() { return unseen(); },
    get violations() { return unseen(); },
    get layout() { return unseen(); },
    get state() { return unseen(); },
  };
}
