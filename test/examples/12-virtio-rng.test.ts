import { EMPTY, firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { encodeDmaAccess, encodeDmaMap, readDmaData, readDmaPart } from '../../src/devices/vfio-user/messages/dma.js';
import { commandName, type Message } from '../../src/devices/vfio-user/messages/header.js';
import { encodeRegionAccess, readRegionData } from '../../src/devices/vfio-user/messages/region-access.js';
import { openUserPort } from '../../src/devices/vfio-user/open-user-port.js';
import { ExampleProcess } from '../support/example-process.js';
import { shownBelow } from '../support/example-run.js';
import { RawPeer } from '../support/vfio-user/raw-peer.js';
import { VirtioDriver } from '../support/virtio-driver.js';

const iova = 0x10_0000n;
const bytes = 0x2000;

/** Never by chance: there are 2^8 times 64 bytes to be zero. */
const isFilled = (buffer: Uint8Array, upTo: number): boolean => buffer.subarray(0, upTo).some((byte) => byte !== 0) && buffer.subarray(upTo).every((byte) => byte === 0);

describe('examples/12-virtio-rng, driven over its socket', { timeout: 60_000 }, () => {
  const example = new ExampleProcess('12-virtio-rng');
  beforeAll(() => example.listening);
  afterAll(async () => expect(await example.end()).toBe(0));

  it('says where it listens, as its page shows', async () => {
    expect((await example.listening).replace(example.path, '/tmp/rng.sock')).toMatch(shownBelow('12-virtio-rng', 'npx tsx examples/12-virtio-rng/main.ts unix:/tmp/rng.sock &'));
  });

  it('fills buffers in memory that is mapped, and says so by MSI-X', async () => {
    const port = await firstValueFrom(openUserPort(example.path, realClock));
    const memory = await firstValueFrom(port.allocateDma(bytes));
    await firstValueFrom(port.dmaMap({ iova, size: bytes, source: memory, read: true, write: true }));
    const [, irq] = await firstValueFrom(port.irqs(2, [0, 1]));
    const driver = new VirtioDriver({
      iova,
      memory: new Uint8Array(memory.memory),
      read: (offset, size) => firstValueFrom(port.access({ region: 0, offset, readBytes: size })),
      write: (offset, data) => firstValueFrom(port.access({ region: 0, offset, write: data })),
    });
    expect(await driver.features()).toBe(1n << 32n);
    await driver.start();
    await firstValueFrom(port.access({ region: 7, offset: 4, write: Uint8Array.of(6) }));
    for (let n = 1; n <= 6; n += 1) {
      const signal = firstValueFrom(irq?.next() ?? EMPTY);
      await driver.give(64);
      await signal;
      expect(driver.used).toEqual({ buffers: n, bytes: 64 });
    }
    expect(isFilled(driver.buffer, 64)).toBe(true);
    // A driver that sends it elsewhere has a device that asks for a reset.
    await driver.give(64, 0xdead_0000n);
    expect(await driver.status()).toBe(15 | 0x40);
    // So has one that claims more than its queue holds.
    await driver.start();
    expect(await driver.status()).toBe(15);
    await driver.claim(5);
    expect([await driver.status(), driver.used.buffers]).toEqual([15 | 0x40, 0]);
    await driver.start();
    expect(await driver.status()).toBe(15);
    await port[Symbol.asyncDispose]();
  });

  it('fills buffers in memory that is reached by messages only, whatever is asked meanwhile', async () => {
    const peer = await RawPeer.agreed(example.path);
    const memory = new Uint8Array(bytes);
    const seen: string[] = [];
    /** Serves its memory, as QEMU does, until what was asked is answered. */
    const reply = async (id: number): Promise<Message> => {
      for (;;) {
        const message = await peer.next();
        if (message.header.reply) {
          if (message.header.id === id) return message;
          continue;
        }
        dma(message);
      }
    };
    const dma = (message: Message): void => {
      seen.push(commandName(message.header.command) ?? '');
      const part = readDmaPart(message.payload);
      const at = Number(part.iova - iova);
      if (seen.at(-1) === 'DMA_WRITE') memory.set(readDmaData(message.payload).data, at);
      peer.reply(message, seen.at(-1) === 'DMA_WRITE' ? encodeDmaAccess(part) : encodeDmaAccess(part, memory.slice(at, at + part.size)));
    };
    const ask = (name: 'REGION_READ' | 'REGION_WRITE' | 'DMA_MAP', payload: Uint8Array): Promise<Message> => reply(peer.command(name, payload));
    expect((await ask('DMA_MAP', encodeDmaMap({ iova, size: bytes, offset: 0, read: true, write: true }))).header.errno).toBeUndefined();
    const driver = new VirtioDriver({
      iova,
      memory,
      read: async (offset, size) => readRegionData((await ask('REGION_READ', encodeRegionAccess({ region: 0, offset, count: size }))).payload).data,
      write: (offset, data) => ask('REGION_WRITE', encodeRegionAccess({ region: 0, offset, count: data.length }, data)),
    });
    await driver.start();
    await ask('REGION_WRITE', encodeRegionAccess({ region: 7, offset: 4, count: 1 }, Uint8Array.of(6)));
    await driver.give(100);
    while (driver.used.buffers === 0) dma(await peer.next());
    expect(driver.used).toEqual({ buffers: 1, bytes: 100 });
    expect(isFilled(driver.buffer, 100)).toBe(true);
    // avail, its entry, the descriptor; the buffer, the used entry, the used index.
    expect(seen.slice(0, 6)).toEqual(['DMA_READ', 'DMA_READ', 'DMA_READ', 'DMA_WRITE', 'DMA_WRITE', 'DMA_WRITE']);
    peer.close();
  });
});
