import { readFileSync } from 'node:fs';
import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { DmaMemory, IovaRange, IrqHandle } from '../../src/devices/port.js';
import { kernelWays } from '../support/kernel-ways.js';
import { SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** edu's DMA engine in BAR 0 (QEMU, docs/specs/edu.rst): 64-bit registers, one buffer of 4 KiB, addresses of 28 bits. It signals when it is done, and keeps that until it is acked. */
const edu = { source: 0x80, destination: 0x88, count: 0x90, command: 0x98, start: 1, toMemory: 2, raise: 4, buffer: 0x4_0000, ack: 0x64, done: 0x100, msi: 1 };
/** Multicast table of e1000e in BAR 0: a register that keeps what is written. */
const multicastTable = 0x5200;
/** PCI_COMMAND: a function that is no bus master does no DMA. */
const command = { region: 7, offset: 4, busMaster: 1 << 2 };

const page = 4096;
const both = { read: true, write: true };
const iova = 0x10_0000n;

let bound: VfioPci[];
let device: VfioDevice;
let signals: IrqHandle;

async function opened(way: 'group' | 'cdev'): Promise<void> {
  const pci = VfioPci.edu();
  bound = [pci];
  device = await firstValueFrom(openDevice(pci.address, { way }));
  const config = device.region(command.region);
  config.write16(command.offset, config.read16(command.offset) | command.busMaster);
  signals = await firstValueFrom(device.port.irq({ index: edu.msi }));
}

afterEach(async () => {
  await device.close();
  expect(vfioFds()).toEqual([]);
  for (const pci of bound) pci[Symbol.dispose]();
});

/** One transfer of the engine, to its end. */
async function transfer(direction: 'to memory' | 'from memory', at: bigint, bytes: number): Promise<void> {
  const bar = device.region(0);
  const toMemory = direction === 'to memory';
  bar.write64(edu.source, toMemory ? BigInt(edu.buffer) : at);
  bar.write64(edu.destination, toMemory ? at : BigInt(edu.buffer));
  bar.write64(edu.count, BigInt(bytes));
  bar.write64(edu.command, BigInt(edu.start | edu.raise | (toMemory ? edu.toMemory : 0)));
  await firstValueFrom(signals.next());
  bar.write32(edu.ack, edu.done);
}

const memoryOf = (pages: number): Promise<DmaMemory> => firstValueFrom(device.port.allocateDma(pages * page));
const map = (range: IovaRange, source: DmaMemory, offset = 0, rights = both) => firstValueFrom(device.port.dmaMap({ ...range, source, offset, ...rights }));

describe.each(kernelWays)('a device behind an IOMMU, opened by %s', (way) => {
  const byGroup = way === 'group';

  beforeEach(() => opened(way));

  it('reaches memory both ways where it is mapped, and nowhere else', async () => {
    const memory = await memoryOf(3);
    const bytes = new Uint8Array(memory.memory);
    const sent = Uint8Array.from({ length: 256 }, (_, n) => n ^ 0x5a);
    bytes.set(sent, 16);
    await map({ iova, size: page }, memory);
    await map({ iova: iova + BigInt(page), size: page }, memory, page);
    await map({ iova: iova + BigInt(2 * page), size: page }, memory, 2 * page, { read: true, write: false });
    await transfer('from memory', iova + 16n, 256);
    await transfer('to memory', iova + BigInt(page), 256);
    expect(bytes.subarray(page, page + 256)).toEqual(sent);
    // A range that devices may only read, and one that has left.
    await transfer('to memory', iova + BigInt(2 * page), 256);
    await firstValueFrom(device.port.dmaUnmap({ iova: iova + BigInt(page), size: page }));
    bytes.fill(0, page);
    await transfer('to memory', iova + BigInt(page), 256);
    expect(bytes.subarray(page).every((byte) => byte === 0)).toBe(true);
  });

  it('has limits: where addresses may lie, and how much memory may be locked', async () => {
    const { pageSizes, iovaRanges = [], available } = await firstValueFrom(device.port.dmaLimits());
    expect([pageSizes & 4096n, available]).toEqual([4096n, byGroup ? 65_535 : undefined]);
    expect(iovaRanges.length).toBeGreaterThan(1);
    const memory = await memoryOf(1);
    // Where x86 has its interrupts.
    await expect(map({ iova: 0xfee0_0000n, size: page }, memory)).rejects.toMatchObject({ code: 'VFIO_E_RANGE', errno: undefined });
    await expect(map({ iova: (iovaRanges.at(-1)?.end ?? 0n) + 1n, size: page }, memory)).rejects.toMatchObject({ code: 'VFIO_E_RANGE', errno: undefined });
    const [, soft = ''] = /^Max locked memory +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    const much = await memoryOf(Math.floor(Number(soft) / page) + 1);
    process.seteuid?.(65_534);
    try {
      await expect(map({ iova, size: much.size }, much)).rejects.toMatchObject({ code: 'VFIO_E_LIMIT', errno: 'ENOMEM', message: expect.stringContaining('ulimit -l') as string });
    } finally {
      process.seteuid?.(0);
    }
    await firstValueFrom(much.free());
  });

  it('reaches an area of another device, until that is revoked', async (ctx) => {
    if (!byGroup) ctx.skip('an iommufd maps memory, no areas of devices');
    const cardPci = VfioPci.networkCard();
    bound.push(cardPci);
    const card = await firstValueFrom(openDevice(cardPci.address, { way }));
    try {
      await firstValueFrom(card.mapRegion(0));
      const area = card.region(0).mapped.areas[0] ?? { offset: 0, size: 0 };
      const register = (): number => card.region(0).read32(multicastTable);
      const memory = await memoryOf(1);
      await map({ iova, size: page }, memory);
      const say = async (value: number): Promise<void> => {
        new Uint32Array(memory.memory)[0] = value;
        await transfer('from memory', iova, 4);
        await transfer('to memory', 0x800_0000n + BigInt(multicastTable), 4);
      };
      const hold = await firstValueFrom(card.region(0).mapDma(area, { iova: 0x800_0000n, ...both }));
      await say(0x1234_5678);
      expect(register()).toBe(0x1234_5678);
      // A part goes: all of it leaves the IOMMU first; what is kept enters again with what is added, here nothing.
      await firstValueFrom(card.region(0).revoke([{ offset: 0x1_0000, size: 0x1_0000 }], 100));
      expect(hold.ranges).toEqual([]);
      await say(0x1111_1111);
      expect(register()).toBe(0x1234_5678);
      await firstValueFrom(card.region(0).attach([]));
      expect(hold.ranges).toEqual([{ iova: 0x800_0000n, size: 0x1_0000 }]);
      await say(0x2222_2222);
      expect(register()).toBe(0x2222_2222);
      await firstValueFrom(hold.release());
      await say(0x3333_3333);
      expect(register()).toBe(0x2222_2222);
    } finally {
      await card.close();
    }
  });

  it('cannot be given what is its driver’s own RAM', async () => {
    using mdev = new SampleMdev();
    await using other = await firstValueFrom(openDevice(mdev.uuid, { way }));
    await firstValueFrom(other.mapRegion(0));
    const asked = firstValueFrom(other.region(0).mapDma({ offset: 0, size: page }, { iova, ...both }));
    await expect(asked).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED', errno: byGroup ? 'EFAULT' : undefined });
    expect((await firstValueFrom(device.port.dmaLimits())).available).toBe(byGroup ? 65_535 : undefined);
  });
});
