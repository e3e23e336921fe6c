import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filter, firstValueFrom, lastValueFrom, ReplaySubject, type Subscription } from 'rxjs';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { serveDevice, type ServerEvent } from '../../src/devices/serve.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** A device of the kernel, served by vfio-user: server and client are two ends of one process here, and speak through a socket all the same. */
describe('a device of the kernel that is served', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-served-'));
  const path = join(folder, 'device.sock');
  afterAll(() => rmSync(folder, { recursive: true }));
  let serving: Subscription;
  let events: ReplaySubject<ServerEvent>;
  let device: VfioDevice;

  const open = async (address: string): Promise<void> => {
    events = new ReplaySubject<ServerEvent>(16);
    serving = serveDevice(address, path).subscribe(events);
    await firstValueFrom(events);
    device = await firstValueFrom(openDevice(`vfio-user:${path}`));
  };

  const close = async (): Promise<void> => {
    await device.close();
    await firstValueFrom(events.pipe(filter(({ kind }) => kind === 'gone')));
    serving.unsubscribe();
    expect(vfioFds()).toEqual([]);
  };

  describe('the sample driver, which demands remaps', () => {
    let mdev: SampleMdev;

    beforeEach(async () => {
      mdev = new SampleMdev({ ackTimeoutMs: 20_000 });
      await open(mdev.uuid);
    });

    afterEach(async () => {
      await close();
      expect(mdev.held()).toEqual(nothingHeld);
      mdev[Symbol.dispose]();
    });

    it('gets its acks, and goes into STOP_COPY and back', async () => {
      await new Promise<void>((registered, failed) => {
        remapIrq(device).pipe(remapRegions(device)).subscribe({ next: () => registered(), error: failed });
      });
      expect(mdev.held()).toMatchObject({ irqs: 2 });
      await lastValueFrom(transition(device, 'stop-copy'));
      expect([mdev.number('acked'), mdev.number('violations'), mdev.number('waiters')]).toEqual([mdev.number('sent'), 0, 0]);
      await lastValueFrom(transition(device, 'running'));
      // Memory of a device of the kernel is not shared: each access is a message.
      await firstValueFrom(device.region(1).request({ offset: 0x2000, write: Uint8Array.of(1, 2, 3, 4) }));
      expect(await firstValueFrom(device.region(1).request({ offset: 0x2000, readBytes: 4 }))).toEqual(Uint8Array.of(1, 2, 3, 4));
      expect(device.region(1).mapped.areas).toEqual([]);
    });
  });

  it('reaches memory of its client by DMA: the file that came with DMA_MAP is in the IOMMU', async () => {
    const pci = VfioPci.edu();
    await open(pci.address);
    const { port } = device;
    const page = 4096;
    // docs/specs/edu.rst of QEMU; as in edu.test.ts.
    const dma = { source: 0x80, destination: 0x88, count: 0x90, command: 0x98, start: 1, toMemory: 2, raise: 4, done: 0x100, buffer: 0x40000, irqAck: 0x64 };
    const write = (offset: number, value: number): Promise<unknown> => lastValueFrom(port.access({ region: 0, offset, write: new Uint8Array(Uint32Array.of(value).buffer) }));
    await firstValueFrom(port.access({ region: 7, offset: 4, write: Uint8Array.of(6, 0) }));
    const memory = await firstValueFrom(port.allocateDma(2 * page));
    const bytes = new Uint8Array(memory.memory);
    bytes.subarray(0, 1024).forEach((_, at) => (bytes[at] = (at * 7) & 0xff));
    const range = { iova: 0x10_0000n, size: 2 * page };
    await firstValueFrom(port.dmaMap({ ...range, source: memory, read: true, write: true }));
    const signals = await firstValueFrom(port.irq({ index: 1 }));
    const move = async (from: number, to: number, direction: number): Promise<void> => {
      await write(dma.source, from);
      await write(dma.destination, to);
      await write(dma.count, 1024);
      await write(dma.command, dma.start | direction | dma.raise);
      await firstValueFrom(signals.next());
      await write(dma.irqAck, dma.done);
    };
    await move(Number(range.iova), dma.buffer, 0);
    await move(dma.buffer, Number(range.iova) + page, dma.toMemory);
    expect(Buffer.from(bytes.subarray(page, page + 1024)).equals(bytes.subarray(0, 1024))).toBe(true);
    expect(await firstValueFrom(port.dmaUnmap(range))).toBe(2 * page);
    await close();
    pci[Symbol.dispose]();
  });
});
