import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import type { DevicePort } from '../../../src/devices/port.js';
import { openUserPort } from '../../../src/devices/vfio-user/open-user-port.js';

/** samples/server of libvfio-user. */
const program = process.env['VFIO_USER_PEER'];

/** Against a server that we did not write. Its BAR0 holds a time: when that has come it signals INTx, and writes and reads the client's memory. */
describe.skipIf(program === undefined)('a server of libvfio-user', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-foreign-'));
  const path = join(folder, 'server.sock');
  let server: ChildProcess;
  let port: DevicePort;

  beforeAll(async () => {
    const listening = new Promise<void>((resolve) => {
      const watcher = watch(folder, () => {
        if (!existsSync(path)) return;
        watcher.close();
        resolve();
      });
    });
    server = spawn(program ?? '', ['-v', path], { stdio: 'ignore' });
    await listening;
    port = await firstValueFrom(openUserPort(path, realClock));
  });
  afterAll(async () => {
    await port[Symbol.asyncDispose]();
    server.kill();
    rmSync(folder, { recursive: true });
  });

  it('has its layouts, and a mapping through its fd', async () => {
    expect(await firstValueFrom(port.info())).toMatchObject({ regions: 9, irqs: 5, pci: true, reset: true });
    expect(await firstValueFrom(port.regionInfo(1))).toMatchObject({ size: 0x4000, areas: [{ offset: 0, size: 0x1000 }, { offset: 0x2000, size: 0x1000 }] });
    await expect(firstValueFrom(port.regionInfo(9))).rejects.toMatchObject({ code: 'VFIO_E_NO_REGION' });
    const config = await firstValueFrom(port.access({ region: 7, offset: 0, readBytes: 64 }));
    expect(Buffer.from(config.subarray(0, 4)).toString('hex')).toBe('addeefbe');
    const mapping = await firstValueFrom(port.map(1, { offset: 0x2000, size: 0x1000 }));
    await firstValueFrom(port.access({ region: 1, offset: 0x2004, write: Uint8Array.of(1, 2, 3, 4) }));
    expect([...new Uint8Array(mapping.memory, 4, 4)]).toEqual([1, 2, 3, 4]);
    await firstValueFrom(port.unmap(mapping));
  });

  it('signals, and reaches memory by mapping and by message', async () => {
    const irq = await firstValueFrom(port.irq({ index: 0 }));
    const memories = await Promise.all([0, 1].map(() => firstValueFrom(port.allocateDma(1 << 20))));
    for (const [n, source] of memories.entries()) await firstValueFrom(port.dmaMap({ iova: BigInt(n) << 20n, size: 1 << 20, source, read: true, write: true }));
    const time = new Uint8Array(8);
    new DataView(time.buffer).setBigInt64(0, BigInt(Math.floor(Date.now() / 1000) + 1), true);
    const signal = firstValueFrom(irq.next());
    await firstValueFrom(port.access({ region: 0, offset: 0, write: time }));
    expect((await signal).count).toBe(1n);
    // Its DMA comes before the next command is answered.
    await firstValueFrom(port.info());
    for (const { memory } of memories) expect(new Uint8Array(memory)[0]).toBe(0x41);
    await firstValueFrom(irq.close());
    expect(await firstValueFrom(port.dmaUnmap({ iova: 0n, size: 2 << 20 }))).toBe(2 << 20);
  });

  it('saves its state', async () => {
    expect(await firstValueFrom(port.migration())).toEqual({ version: 2, flags: 5 });
    const { data } = await firstValueFrom(port.setState('pre-copy'));
    if (data === undefined) throw new Error('no session');
    let bytes = 0;
    const drain = async (): Promise<string> => {
      for (;;) {
        const chunk = await firstValueFrom(data.read(1 << 20));
        if (chunk.kind !== 'bytes') return chunk.kind;
        bytes += chunk.bytes.length;
      }
    };
    expect(await drain()).toBe('quiet');
    await firstValueFrom(port.setState('stop-copy'));
    expect(await drain()).toBe('end');
    expect(bytes).toBeGreaterThanOrEqual(0x4000);
    expect(await firstValueFrom(port.getState())).toBe('stop-copy');
  });
});
