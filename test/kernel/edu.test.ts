import { EMPTY, firstValueFrom, lastValueFrom, map, take, tap, toArray } from 'rxjs';
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

const indexes = { intx: 0, msi: 1, req: 4 };

/** Its DMA engine: registers, bits of the command, the value in the irq status register when it is done, its memory. */
const dma = { source: 0x80, destination: 0x88, count: 0x90, command: 0x98, start: 1, toMemory: 2, raise: 4, done: 0x100, buffer: 0x40000 };
const page = 4096;
/** Its memory is one page; QEMU 7.2 takes a transfer up to its very end for one beyond it, and aborts. */
const most = page - 4;

describe('the edu device', () => {
  let pci: VfioPci;
  let device: VfioDevice;

  const write = (register: number, value: number) => device.region(0).write32(register, value);
  const read = (register: number) => device.region(0).read32(register);

  /** Without it an MSI, which is a write of memory, goes nowhere. */
  const mastersBus = async (): Promise<void> => {
    expect(await firstValueFrom(device.config?.busMaster(true) ?? EMPTY)).toMatchObject({ busMaster: true });
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
    expect(found[indexes.intx]).toMatchObject({ count: 1, automasked: true, maskable: true });
    expect(found[indexes.msi]).toMatchObject({ count: 1, automasked: false, noResize: true });
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
      await mastersBus();
      const signal = firstValueFrom(irq(device, { index: indexes.msi }));
      write(registers.status, raiseWhenComputed);
      write(registers.factorial, 10);
      expect(await signal).toMatchObject({ line: { index: indexes.msi }, count: 1n });
      expect(read(registers.irqStatus)).toBe(computed);
      write(registers.irqAck, computed);
      expect([read(registers.factorial), read(registers.irqStatus)]).toEqual([3_628_800, 0]);
    });

    it('moves memory by DMA, to itself and back, where it is let', async () => {
      await mastersBus();
      const memory = await firstValueFrom(device.port.allocateDma(2 * page));
      const bytes = new Uint8Array(memory.memory);
      const [sent, back] = [bytes.subarray(0, most), bytes.subarray(page, page + most)];
      sent.forEach((_, at) => (sent[at] = (at * 7) & 0xff));
      const range = { iova: 0x10_0000n, size: 2 * page };
      await firstValueFrom(device.port.dmaMap({ ...range, source: memory, read: true, write: true }));
      const signals = await firstValueFrom(device.port.irq({ index: indexes.msi }));
      const move = async (from: number, to: number, direction: number): Promise<void> => {
        write(dma.source, from);
        write(dma.destination, to);
        write(dma.count, most);
        write(dma.command, dma.start | direction | dma.raise);
        await firstValueFrom(signals.next());
        write(registers.irqAck, dma.done);
      };
      await move(Number(range.iova), dma.buffer, 0);
      await move(dma.buffer, Number(range.iova) + page, dma.toMemory);
      expect(Buffer.from(back).equals(sent)).toBe(true);

      back.fill(0);
      expect(await firstValueFrom(device.port.dmaUnmap(range))).toBe(2 * page);
      await move(dma.buffer, Number(range.iova) + page, dma.toMemory);
      expect(back.every((byte) => byte === 0)).toBe(true);
    });

    it('takes 64 bits at once by a mapping; by a trapped access only since Linux 6.11, before that they are two times 32', () => {
      const value = 0x1_2345_6789n;
      device.region(0).write64(dma.source, value);
      // The device knows no register in the upper half, and answers all ones.
      const halves = how === 'trapped' && process.env['VFIO_RX_KERNEL_SERIES'] === '6.1';
      expect(device.region(0).read64(dma.source)).toBe(halves ? (0xffff_ffffn << 32n) | (value & 0xffff_ffffn) : value);
    });

    it('raises INTx once, and again when it is unmasked while its line is up', async () => {
      const intx = await firstValueFrom(device.port.irq({ index: indexes.intx }));
      write(registers.irqRaise, 5);
      expect(await firstValueFrom(intx.next())).toMatchObject({ line: { index: indexes.intx }, count: 1n });
      write(registers.irqRaise, 2);
      expect(await lastValueFrom(intx.readNow())).toBeUndefined();
      await lastValueFrom(intx.unmask());
      expect(await firstValueFrom(intx.next())).toMatchObject({ count: 1n });
      expect(read(registers.irqStatus)).toBe(7);

      write(registers.irqAck, 7);
      await lastValueFrom(intx.unmask());
      expect(await lastValueFrom(intx.readNow())).toBeUndefined();
      await lastValueFrom(intx.mask());
      write(registers.irqRaise, 1);
      expect(await lastValueFrom(intx.readNow())).toBeUndefined();
      await lastValueFrom(intx.unmask());
      expect(await firstValueFrom(intx.next())).toMatchObject({ count: 1n });
      write(registers.irqAck, 1);
    });

    it.each(['call', 'eventfd'] as const)('signals for as long as its line is up, unmasked by %s when the subscriber has returned', async (unmaskBy) => {
      const causes: number[] = [];
      const counts = lastValueFrom(
        irq(device, { index: indexes.intx }, { unmaskBy }).pipe(
          tap(() => {
            const cause = read(registers.irqStatus);
            causes.push(cause);
            // One bit at a time: the line stays up until the last.
            write(registers.irqAck, cause & -cause);
          }),
          map(({ count }) => count),
          take(3),
          toArray(),
        ),
      );
      write(registers.irqRaise, 7);
      expect([await counts, causes, read(registers.irqStatus)]).toEqual([[1n, 1n, 1n], [7, 6, 4], 0]);
    });
  });

  it.each(['intx', 'msi', 'req'] as const)('tells by loopback of %s', async (name) => {
    const handle = await firstValueFrom(device.port.irq({ index: indexes[name] }));
    await lastValueFrom(handle.trigger());
    await lastValueFrom(handle.trigger());
    expect(await firstValueFrom(handle.next())).toMatchObject({ line: { index: indexes[name] }, count: 2n });
  });

  it('has no reset', async () => {
    await expect(lastValueFrom(device.reset())).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED' });
  });
});
