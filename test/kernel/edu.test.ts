import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { irq } from '../../src/streams/irq.js';
import { vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** Registers of the edu device in BAR 0 (QEMU, docs/specs/edu.rst), 32 bits each. */
const registers = { identification: 0x00, liveness: 0x04, factorial: 0x08, status: 0x20, irqStatus: 0x24, irqRaise: 0x60, irqAck: 0x64 };
const raiseWhenComputed = 0x80;
/** The value in the irq status register of a computation that is done. */
const computed = 1;

/** PCI_COMMAND in the configuration space: without the bus master bit an MSI, which is a write of memory, goes nowhere. */
const command = { region: 7, offset: 4, busMaster: 1 << 2 };

const irqs = { intx: 0, msi: 1 };

describe('the edu device', () => {
  let pci: VfioPci;
  let device: VfioDevice;

  const write = (register: number, value: number) => device.region(0).write32(register, value);
  const read = (register: number) => device.region(0).read32(register);

  const mastersBus = (): void => {
    const config = device.region(command.region);
    config.write16(command.offset, config.read16(command.offset) | command.busMaster);
  };

  beforeEach(async () => {
    pci = VfioPci.edu();
    device = await firstValueFrom(openDevice(pci.address));
  });

  afterEach(async () => {
    await device.close();
    expect(vfioFds()).toEqual([]);
    pci[Symbol.dispose]();
  });

  it('is what a PCI function is to VFIO', async () => {
    expect(device.info).toMatchObject({ irqs: 5 });
    expect([...device.regions.keys()]).toEqual([0, 7]);
    expect(device.region(0).size).toBe(1 << 20);
    expect(device.migration).toBeUndefined();
    const found = await firstValueFrom(device.irqs());
    expect(found.filter(({ count }) => count > 0).map(({ index }) => index)).toEqual([0, 1, 4]);
    expect(found[irqs.intx]).toMatchObject({ count: 1, automasked: true, maskable: true });
    expect(found[irqs.msi]).toMatchObject({ count: 1, automasked: false, noResize: true });
  });

  describe.each(['trapped', 'mapped'])('with %s access', (how) => {
    beforeEach(async () => {
      if (how === 'mapped') expect(await firstValueFrom(device.mapRegion(0))).toEqual([]);
      expect(device.region(0).mapped.areas).toEqual(how === 'mapped' ? [{ offset: 0, size: 1 << 20 }] : []);
    });

    it('says who it is, and that it lives', () => {
      expect(read(registers.identification)).toBe(0x010000ed);
      write(registers.liveness, 0x1234_5678);
      expect(read(registers.liveness)).toBe(0xedcb_a987);
    });

    it('computes, and tells by MSI', async () => {
      mastersBus();
      const signal = firstValueFrom(irq(device, { index: irqs.msi }));
      write(registers.status, raiseWhenComputed);
      write(registers.factorial, 10);
      expect(await signal).toMatchObject({ line: { index: irqs.msi }, count: 1n });
      expect(read(registers.irqStatus)).toBe(computed);
      write(registers.irqAck, computed);
      expect([read(registers.factorial), read(registers.irqStatus)]).toEqual([3_628_800, 0]);
    });

    it('raises INTx', async () => {
      const signal = firstValueFrom(irq(device, { index: irqs.intx }));
      write(registers.irqRaise, 5);
      expect(await signal).toMatchObject({ line: { index: irqs.intx }, count: 1n });
      expect(read(registers.irqStatus)).toBe(5);
      write(registers.irqAck, 5);
      expect(read(registers.irqStatus)).toBe(0);
    });
  });
});
