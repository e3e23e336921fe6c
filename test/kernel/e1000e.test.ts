import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { EMPTY, firstValueFrom, lastValueFrom, map, take, toArray } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { IrqHandle } from '../../src/devices/port.js';
import { irq } from '../../src/streams/irq.js';
import { irqs } from '../../src/streams/irqs.js';
import { vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** Registers of the 82574 in BAR 0 (its datasheet, chapter 10), 32 bits each. */
const registers = { status: 0x08, vlanEtherType: 0x38, irqCause: 0xc0, irqSet: 0xc8, irqEnable: 0xd0, irqVectors: 0xe4 };
/** The ethernet types of a VLAN: one that the card has after reset, and another. */
const vlan = { atReset: 0x8100, other: 0x88a8 };

/** What an interrupt can be caused by: bit in cause, set and enable registers, and where the vectors register names its vector. */
const causes = [
  { name: 'receive queue 0', bit: 1 << 20, shift: 0 },
  { name: 'receive queue 1', bit: 1 << 21, shift: 4 },
  { name: 'transmit queue 0', bit: 1 << 22, shift: 8 },
  { name: 'transmit queue 1', bit: 1 << 23, shift: 12 },
  { name: 'other', bit: 1 << 24, shift: 16 },
];
const valid = 1 << 3;

const indexes = { intx: 0, msi: 1, msix: 2, err: 3, req: 4 };

/** Two loopbacks before one look are one signal of 2. */
async function loopback(handle: IrqHandle | undefined): Promise<void> {
  if (handle === undefined) throw new Error('no such vector');
  await lastValueFrom(handle.trigger());
  await lastValueFrom(handle.trigger());
  expect(await firstValueFrom(handle.next())).toMatchObject({ line: handle.line, count: 2n });
}

describe('an e1000e', () => {
  let pci: VfioPci;
  let device: VfioDevice;

  const write = (register: number, value: number) => device.region(0).write32(register, value);
  const read = (register: number) => device.region(0).read32(register);

  /** Without it an MSI, which is a write of memory, goes nowhere. */
  const mastersBus = async (): Promise<void> => {
    expect(await firstValueFrom(device.config?.busMaster(true) ?? EMPTY)).toMatchObject({ busMaster: true });
  };

  beforeEach(async () => {
    pci = VfioPci.networkCard();
    device = await firstValueFrom(openDevice(pci.address));
  });

  afterEach(async () => {
    await device.close();
    expect(vfioFds()).toEqual([]);
    pci[Symbol.dispose]();
  });

  it('is what a PCI Express function is to VFIO', async () => {
    expect([...device.regions.values()].map(({ index, size }) => [index, size])).toEqual([
      [0, 0x20000],
      [1, 0x20000],
      [2, 0x20],
      [3, 0x4000],
      [7, 0x1000],
    ]);
    const found = await firstValueFrom(device.irqs());
    expect(found.map(({ index, count }) => [index, count])).toEqual([
      [indexes.intx, 1],
      [indexes.msi, 1],
      [indexes.msix, causes.length],
      [indexes.err, 1],
      [indexes.req, 1],
    ]);
  });

  it('is the same by mapped and by trapped access', async () => {
    const trapped = read(registers.status);
    write(registers.vlanEtherType, vlan.other);
    expect(await firstValueFrom(device.mapRegion(0))).toEqual([]);
    expect(device.region(0).mapped.areas).toEqual([{ offset: 0, size: 0x20000 }]);
    expect([read(registers.status), read(registers.vlanEtherType)]).toEqual([trapped, vlan.other]);
  });

  it('has a BAR of ports, which is trapped only', async () => {
    write(registers.vlanEtherType, vlan.other);
    expect(await firstValueFrom(device.mapRegion(2))).toEqual([]);
    expect(device.region(2).mapped.areas).toEqual([]);
    // The first port takes the number of a register, the second is that register.
    device.region(2).write32(0, registers.vlanEtherType);
    expect(device.region(2).read32(4)).toBe(vlan.other);
  });

  it('tells by the MSI-X vector that it was given for each cause', async () => {
    await mastersBus();
    await firstValueFrom(device.mapRegion(0));
    // In reverse order, so that the number of a cause and its vector differ.
    const vectors = causes.map((_, nth) => causes.length - 1 - nth);
    const raise = (nth: number): void => write(registers.irqSet, causes[nth]?.bit ?? 0);
    let nth = 0;
    const told = lastValueFrom(
      irqs(device, indexes.msix, vectors).pipe(
        map(({ line }) => {
          const raised = causes.filter(({ bit }) => (read(registers.irqCause) & bit) !== 0).map(({ name }) => name);
          write(registers.irqCause, causes[nth]?.bit ?? 0);
          nth += 1;
          raise(nth);
          return { raised, vector: line.vector };
        }),
        take(causes.length),
        toArray(),
      ),
    );
    write(registers.irqVectors, causes.reduce((word, { shift }, cause) => word | ((valid | (vectors[cause] ?? 0)) << shift), 0));
    write(registers.irqEnable, causes.reduce((word, { bit }) => word | bit, 0));
    raise(0);
    expect(await told).toEqual(causes.map(({ name }, cause) => ({ raised: [name], vector: vectors[cause] })));
  });

  it('takes more vectors while some are in use, where the kernel can do that', async () => {
    const { noResize } = await firstValueFrom(device.port.irqInfo(indexes.msix));
    expect(noResize).toBe(process.env['VFIO_RX_KERNEL_SERIES'] === '6.1');
    await firstValueFrom(device.port.irq({ index: indexes.msix }));
    const later = firstValueFrom(device.port.irqs(indexes.msix, [2, 4]));
    if (noResize) await expect(later).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    else await loopback((await later)[1]);
  });

  it('lets its table of vectors be mapped, which VFIO sees to', async () => {
    const { areas, msixMappable } = await firstValueFrom(device.port.regionInfo(3));
    expect({ areas, msixMappable }).toEqual({ areas: [{ offset: 0, size: 0x4000 }], msixMappable: true });
    expect(await firstValueFrom(device.mapRegion(3))).toEqual([]);
  });

  it('is reset, and its mapped BAR with it', async () => {
    // The other method, through its power states, leaves an emulated card as it is.
    pci.resetMethod = 'bus';
    await firstValueFrom(device.mapRegion(0));
    write(registers.vlanEtherType, vlan.other);
    await lastValueFrom(device.reset());
    expect(read(registers.vlanEtherType)).toBe(vlan.atReset);
  });

  it.each(['msi', 'msix', 'err', 'req'] as const)('tells by loopback of %s', async (name) => {
    await loopback(await firstValueFrom(device.port.irq({ index: indexes[name] })));
  });

  it('tells of an error on the bus by ERR', async () => {
    const signal = firstValueFrom(irq(device, { index: indexes.err }));
    pci.reportError();
    expect(await signal).toMatchObject({ line: { index: indexes.err }, count: 1n });
  });

  it('is asked for by REQ while somebody unbinds it, again and again, until it is closed', async () => {
    const signals = lastValueFrom(irq(device, { index: indexes.req }).pipe(take(2), toArray()));
    const unbinding = spawn('sh', ['-c', `echo ${pci.address} > /sys/bus/pci/drivers/vfio-pci/unbind`], { stdio: 'inherit' });
    const unbound = once(unbinding, 'exit');
    const [first, second] = await signals;
    expect([first?.count, second?.count]).toEqual([1n, 1n]);
    // The kernel asks every ten seconds; by this machine's clock that is a little less or more.
    expect(Number((second?.atNs ?? 0n) - (first?.atNs ?? 0n)) / 1e9).toBeGreaterThan(8);
    expect(unbinding.exitCode).toBeNull();
    expect(read(registers.status)).not.toBe(0xffff_ffff);
    await device.close();
    expect(await unbound).toEqual([0, null]);
    expect(pci.bound).toBe(false);
  });
});
