import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { openDevice } from '../../../src/devices/index.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';
import { OtherProcess } from '../../support/vfio-user/other-process.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

function opened(path: string): Promise<DevicePort> {
  return firstValueFrom(openUserPort(path, realClock));
}

describe('a device that another process serves', () => {
  it('opens by its address, like any other', async () => {
    const { path } = other.serve({ remap: false });
    const device = await firstValueFrom(openDevice(`vfio-user:${path}`));
    expect(device.currentState.state).toBe('running');
    expect([...device.regions.keys()]).toEqual([0, 1, 2, 7]);
    await device.close();
  });

  it('reaches memory of this process by DMA, in both directions, until the range is unmapped', async () => {
    const served = other.serve({ remap: false });
    const port = await opened(served.path);
    const memory = await firstValueFrom(port.allocateDma(8192));
    const bytes = new Uint8Array(memory.memory);
    bytes.set(new TextEncoder().encode('hello'), 4096);
    await firstValueFrom(port.dmaMap({ iova: 0x10_0000n, size: 4096, source: memory, offset: 4096, read: true, write: true }));
    expect(served.dma(0x10_0000n, 'WORLD')).toEqual({ seen: 'hello', wrote: true });
    expect(new TextDecoder().decode(bytes.subarray(4096, 4101))).toBe('WORLD');
    await firstValueFrom(port.dmaUnmap({ iova: 0x10_0000n, size: 4096 }));
    expect(served.dma(0x10_0000n, 'again')).toEqual({ seen: null, wrote: false });
    await port[Symbol.asyncDispose]();
  });

  it('logs what it writes by DMA', async () => {
    const served = other.serve({ remap: false, dmaLogging: 4096 });
    const port = await opened(served.path);
    const range = { iova: 0x10_0000n, size: 4 * 4096 };
    await firstValueFrom(port.dmaMap({ ...range, source: await firstValueFrom(port.allocateDma(range.size)), read: true, write: true }));
    expect(await firstValueFrom(port.dmaLogging.start({ ranges: [range], pageSize: 4096 }))).toBe(4096);
    await expect(firstValueFrom(port.dmaLogging.start({ ranges: [range], pageSize: 4096 }))).rejects.toMatchObject({ code: 'VFIO_E_BUSY' });
    served.dma(range.iova + 2n * 4096n, 'dirty');
    const report = (): Promise<Uint8Array> => firstValueFrom(port.dmaLogging.report({ ...range, pageSize: 4096 }));
    expect([...(await report())]).toEqual([0b100, 0, 0, 0, 0, 0, 0, 0]);
    expect([...(await report())]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    await firstValueFrom(port.dmaLogging.stop());
    await port[Symbol.asyncDispose]();
  });

  it('tells of more pages than one message has room for', async () => {
    const served = other.serve({ remap: false, dmaLogging: 4096 });
    const port = await opened(served.path);
    const all = { iova: 0n, size: 64 * 2 ** 30 };
    const range = { iova: 48n * 2n ** 30n, size: 4096 };
    await firstValueFrom(port.dmaMap({ ...range, source: await firstValueFrom(port.allocateDma(range.size)), read: true, write: true }));
    await firstValueFrom(port.dmaLogging.start({ ranges: [all], pageSize: 4096 }));
    served.dma(range.iova, 'dirty');
    const bits = await firstValueFrom(port.dmaLogging.report({ ...all, pageSize: 4096 }));
    expect([bits.length, bits.findIndex((byte) => byte !== 0), bits[1.5 * 2 ** 20]]).toEqual([2 * 2 ** 20, 1.5 * 2 ** 20, 1]);
    await port[Symbol.asyncDispose]();
  });

  it('moves its state: what one device saved the next one has', async () => {
    const [first, second] = [other.serve({ remap: false }), other.serve({ remap: false })];
    const source = await opened(first.path);
    await firstValueFrom(source.access({ region: 2, offset: 16, write: Uint8Array.of(1, 2, 3, 4) }));
    const save = (await firstValueFrom(source.setState('pre-copy'))).data;
    expect(save?.direction).toBe('save');
    if (save === undefined) return;
    const saved: Uint8Array[] = [];
    const drain = async (): Promise<string> => {
      for (;;) {
        const chunk = await firstValueFrom(save.read(50_000));
        if (chunk.kind !== 'bytes') return chunk.kind;
        saved.push(chunk.bytes.slice());
      }
    };
    expect(await drain()).toBe('quiet');
    expect((await firstValueFrom(source.setState('stop-copy'))).data).toBeUndefined();
    expect(await drain()).toBe('end');
    const destination = await opened(second.path);
    const resume = (await firstValueFrom(destination.setState('resuming'))).data;
    for (const bytes of saved) if (resume !== undefined) await firstValueFrom(resume.write(bytes));
    await firstValueFrom(destination.setState('running'));
    expect(await firstValueFrom(destination.access({ region: 2, offset: 16, readBytes: 4 }))).toEqual(Uint8Array.of(1, 2, 3, 4));
    await firstValueFrom(source.reset());
    expect(await firstValueFrom(source.getState())).toBe('running');
    await expect(firstValueFrom(save.read(1))).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    for (const port of [source, destination]) await port[Symbol.asyncDispose]();
  });

  it('answers 64 reads at once, and reads of more than one message', async () => {
    const { path } = other.serve({ remap: false, regions: [{ index: 0, size: 3 << 20 }] });
    const port = await opened(path);
    const pattern = Uint8Array.from({ length: (2 << 20) + 100 }, (_, n) => (n * 7) & 0xff);
    await firstValueFrom(port.access({ region: 0, offset: 1, write: pattern }));
    expect(Buffer.compare(Buffer.from(await firstValueFrom(port.access({ region: 0, offset: 1, readBytes: pattern.length }))), Buffer.from(pattern))).toBe(0);
    const reads = await Promise.all(Array.from({ length: 64 }, (_, n) => firstValueFrom(port.access({ region: 0, offset: 1 + n, readBytes: 1 }))));
    expect(reads.map(([byte]) => byte)).toEqual([...pattern.subarray(0, 64)]);
    await port[Symbol.asyncDispose]();
  });

  it('serves one client after the other, and says what closing did', async () => {
    const { path, witness } = other.serve({ remap: false });
    for (let times = 0; times < 3; times += 1) {
      const port = await opened(path);
      expect(witness.opens).toBe(1);
      await firstValueFrom(port.irq({ index: 1 }));
      const reports = lastValueFrom(port.released.pipe(toArray()));
      port.close();
      expect((await reports).map(({ what, error }) => [what, error])).toEqual([['irq 1 disabled', undefined], ['connection closed', undefined]]);
      expect([witness.opens, witness.irqs]).toEqual([0, 0]);
    }
  });

  it('when its process dies all that is outstanding fails with VFIO_E_NO_DEVICE, and so does what follows', async () => {
    const dying = new OtherProcess();
    const { path } = dying.serve({ remap: false });
    const port = await opened(path);
    const irq = await firstValueFrom(port.irq({ index: 1 }));
    const outstanding = firstValueFrom(irq.next());
    dying.kill();
    await expect(outstanding).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    await expect(firstValueFrom(port.info())).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    await port[Symbol.asyncDispose]();
    dying.dispose();
    await expect(opened(path)).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS' });
  });
});
