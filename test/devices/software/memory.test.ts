import { on } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { poison, RegionMemory, type StaleWrite } from '../../../src/devices/software/region-memory.js';
import { failure, now, opened, watch } from './opened.js';

const area = { offset: 0x1000, size: 0x2000 };

function memory(): { readonly region: RegionMemory; readonly stale: StaleWrite[] } {
  const stale: StaleWrite[] = [];
  return { region: new RegionMemory(0, 0x4000, (write) => stale.push(write)), stale };
}

function mapped(region: RegionMemory, what = area): { readonly mapping: NonNullable<ReturnType<RegionMemory['map']>>; readonly words: BigUint64Array } {
  const mapping = region.map(what);
  if (mapping === undefined) throw new Error('not mapped');
  return { mapping, words: new BigUint64Array(mapping.memory) };
}

describe('region memory', () => {
  it('shows the device what the user wrote through a mapping, and the user what the device wrote', () => {
    const { region } = memory();
    region.write(0x1000, Uint8Array.of(7));
    const { mapping } = mapped(region);
    const bytes = new Uint8Array(mapping.memory);
    expect(bytes[0]).toBe(7);
    bytes[1] = 8;
    expect([...region.read(0xfff, 4)]).toEqual([0, 7, 8, 0]);
    region.write(0x1001, Uint8Array.of(9, 10));
    expect([...bytes.subarray(0, 3)]).toEqual([7, 9, 10]);
  });

  it('takes the contents home at unmap, and leaves poison', () => {
    const { region, stale } = memory();
    const { mapping, words } = mapped(region);
    words[3] = 42n;
    region.unmap(mapping, area);
    expect([...words.subarray(0, 4)]).toEqual([poison, poison, poison, poison]);
    expect(region.read(0x1018, 1)[0]).toBe(42);
    region.checkPoison();
    expect(stale).toEqual([]);
  });

  it('unmaps a part, and the rest stays mapped', () => {
    const { region } = memory();
    const { mapping, words } = mapped(region, { offset: 0, size: 0x3000 });
    region.unmap(mapping, { offset: 0x1000, size: 0x1000 });
    expect(region.vmas).toBe(2);
    expect(words[0x1000 / 8]).toBe(poison);
    words[0x2000 / 8] = 5n;
    words[0x1000 / 8] = 6n;
    expect([region.read(0x2000, 1)[0], region.read(0x1000, 1)[0]]).toEqual([5, 0]);
  });

  it('finds each stale write once, with its offset in the region', () => {
    const { region, stale } = memory();
    const { mapping, words } = mapped(region);
    region.unmap(mapping, area);
    words[2] = 1n;
    region.checkPoison();
    region.checkPoison();
    expect(stale).toEqual([{ region: 0, offset: 0x1010, mapped: false }]);
    words[2] = 1n;
    region.checkPoison();
    expect(stale).toHaveLength(2);
  });

  it('checks a part once more before it is forgotten', () => {
    const { region, stale } = memory();
    const { mapping, words } = mapped(region);
    region.unmap(mapping, area);
    words[0] = 1n;
    for (let n = 0; n < 64; n += 1) region.unmap(mapped(region).mapping, area);
    expect(stale).toEqual([{ region: 0, offset: 0x1000, mapped: false }]);
  });

  it('that is not decoded is poison in its mappings; a write there is found out and lost, and nothing else is', () => {
    const { region, stale } = memory();
    const { mapping, words } = mapped(region);
    words[0] = 5n;
    region.reachable = false;
    expect([words[0], region.read(0x1000, 1)[0]]).toEqual([poison, 5]);
    words[1] = 1n;
    region.write(0x1010, Uint8Array.of(6));
    const second = mapped(region, { offset: 0, size: 0x1000 });
    region.checkPoison();
    region.reachable = true;
    expect([words.slice(0, 3), second.words[0]]).toEqual([BigUint64Array.of(5n, 0n, 6n), 0n]);
    expect(stale).toEqual([{ region: 0, offset: 0x1008, mapped: true }]);
    region.reachable = false;
    words[2] = 1n;
    region.unmap(mapping, area);
    region.reachable = true;
    expect([region.read(0x1000, 1)[0], region.read(0x1010, 1)[0], stale.length]).toEqual([5, 6, 2]);
  });

  it('gives a page to one mapping at a time', () => {
    const { region } = memory();
    mapped(region);
    expect(region.map({ offset: 0x2000, size: 0x2000 })).toBeUndefined();
    expect(region.map({ offset: 0x3000, size: 0x1000 })).toBeDefined();
  });

  it('keeps the contents of a region that is not made of words', () => {
    const region = new RegionMemory(7, 13, () => undefined);
    region.write(12, Uint8Array.of(3));
    expect(region.read(12, 1)[0]).toBe(3);
  });
});

describe('the mailbox', () => {
  const slot = (guest: bigint, seq: bigint): Uint8Array => new Uint8Array(BigUint64Array.of((guest << 32n) | seq).buffer);
  const whole = { offset: 0, size: 0x1_0000 };

  it('takes a trapped delivery at once, a mapped one when somebody looks', () => {
    const { device, port } = opened();
    port.accessNow({ region: 0, offset: 0, write: slot(1n, 1n) });
    expect(new BigUint64Array(device.driver.readRegion(0, 0, 8).buffer)[0]).toBe(0n);
    const words = new BigUint64Array(now(port.map(0, whole)).memory);
    words[5] = (1n << 32n) | 2n;
    words[6] = (2n << 32n) | 3n;
    expect(device.driver.mailbox.guests).toEqual([
      { received: 0, duplicates: 0, highest: 0, byMap: 0, byTrap: 0, missing: 0 },
      { received: 2, duplicates: 0, highest: 2, byMap: 1, byTrap: 1, missing: 0 },
      { received: 1, duplicates: 0, highest: 3, byMap: 1, byTrap: 0, missing: 2 },
      { received: 0, duplicates: 0, highest: 0, byMap: 0, byTrap: 0, missing: 0 },
    ]);
    expect(words[5]).toBe(0n);
  });

  it('takes what rests in the slots at unmap, as come by the mapping, and counts a number that comes twice', () => {
    const { device, port } = opened();
    const mapping = now(port.map(0, whole));
    new BigUint64Array(mapping.memory)[8191] = 1n;
    now(port.unmap(mapping));
    port.accessNow({ region: 0, offset: 0, write: slot(0n, 1n) });
    expect(device.driver.mailbox.guests[0]).toEqual({ received: 1, duplicates: 1, highest: 1, byMap: 1, byTrap: 1, missing: 0 });
  });

  it('leaves alone what is no delivery: guest 4, number 0, half a slot', () => {
    const { device, port } = opened();
    port.accessNow({ region: 0, offset: 0, write: slot(4n, 1n) });
    port.accessNow({ region: 0, offset: 8, write: slot(3n, 0n) });
    port.accessNow({ region: 0, offset: 16, write: Uint8Array.of(1, 0, 0, 0) });
    port.accessNow({ region: 0, offset: 20, write: Uint8Array.of(7, 0, 0, 0) }); // the other half: of no guest that there is
    expect(device.driver.mailbox.guests.map(({ received }) => received)).toEqual([0, 0, 0, 0]);
    expect(device.driver.readRegion(0, 16, 1)[0]).toBe(1);
    const mapping = now(port.map(0, whole));
    new BigUint64Array(mapping.memory)[9] = 5n << 32n | 9n;
    now(port.unmap(mapping));
    expect(new BigUint64Array(device.driver.readRegion(0, 72, 8).buffer)[0]).toBe(5n << 32n | 9n);
    const again = new BigUint64Array(now(port.map(0, whole)).memory);
    expect(device.driver.mailbox.guests.map(({ received }) => received)).toEqual([0, 0, 0, 0]);
    expect(again[9]).toBe(5n << 32n | 9n);
  });

  it('takes a bulk of slots in one trapped write', () => {
    const { device, port } = opened();
    const bulk = new Uint8Array(24);
    bulk.set(slot(0n, 1n), 0);
    bulk.set(slot(0n, 2n), 16);
    port.accessNow({ region: 0, offset: 64, write: bulk });
    expect(device.driver.mailbox.guests[0]).toMatchObject({ received: 2, byTrap: 2 });
  });

  it('looks from time to time for as long as it is mapped, where the clock is asked for that', () => {
    const { clock, device, port } = opened({ scanMs: 1 });
    const mapping = now(port.map(0, whole));
    const words = new BigUint64Array(mapping.memory);
    words[0] = 1n;
    clock.advanceMs(1);
    expect(words[0]).toBe(0n);
    words[0] = 2n;
    clock.advanceMs(1);
    now(port.unmap(mapping));
    clock.flush(); // ends: nothing is mapped any more
    expect(device.driver.mailbox.guests[0]).toMatchObject({ received: 2, byMap: 2, missing: 0 });
  });

  it('reports a stale write, and does not take it for a delivery', () => {
    const { device, port } = opened();
    const mapping = now(port.map(0, whole));
    now(port.unmap(mapping));
    new BigUint64Array(mapping.memory)[2] = 1n;
    expect(device.driver.mailbox.stale).toBe(1);
    expect(device.driver.mailbox.guests[0]?.received).toBe(0);
    expect(device.driver.violationList).toMatchObject([{ kind: 'stale-write', region: 0, offset: 16 }]);
    expect(device.driver.violations).toBe(1);
  });

  it('loses nothing to a holder in another thread that writes while the area is unmapped: taken, or found stale', async () => {
    const { device, port } = opened();
    const mapping = now(port.map(0, whole));
    const worker = new Worker(
      `const { workerData, parentPort } = require('node:worker_threads');
       const words = new BigUint64Array(workerData);
       let sent = 0;
       // Slot after slot, each number once; the first poison it meets says that the area went.
       for (; sent < 8000; sent += 1) {
         if (sent === 10) parentPort.postMessage('going');
         if (Atomics.compareExchange(words, sent, 0n, BigInt(sent + 1)) !== 0n) break;
       }
       parentPort.postMessage(sent);`,
      { eval: true, workerData: mapping.memory },
    );
    // Both may come at once: none is lost between two questions.
    const messages = on(worker, 'message') as AsyncIterableIterator<[unknown]>;
    await messages.next();
    now(port.unmap(mapping));
    const { value: [sent] } = await messages.next() as IteratorYieldResult<[unknown]>;
    await worker.terminate();
    const { guests, stale } = device.driver.mailbox;
    expect(guests[0]).toMatchObject({ received: sent, missing: 0, duplicates: 0 });
    expect(stale).toBe(0);
  });
});

describe('map, unmap and trapped access', () => {
  it('refuse what is not offered, not made of pages, or not there', () => {
    const { port } = opened();
    expect([
      failure(port.map(2, { offset: 0, size: 0x1000 })),
      failure(port.map(1, { offset: 0x8000, size: 0x1000 })),
      failure(port.map(0, { offset: 8, size: 0x1000 })),
      failure(port.map(0, { offset: 0, size: 0 })),
      failure(port.map(3, { offset: 0, size: 0x1000 })),
    ]).toEqual(Array.from({ length: 5 }, () => 'VFIO_E_RANGE'));
    const mapping = now(port.map(0, { offset: 0x1000, size: 0x1000 }));
    expect(failure(port.unmap(mapping, { offset: 0, size: 0x1000 }))).toBe('VFIO_E_RANGE');
    expect(failure(port.map(0, { offset: 0, size: 0x2000 }))).toBe('VFIO_E_BUSY');
  });

  it('go through what is mapped', () => {
    const { clock, port } = opened();
    const mapping = now(port.map(1, { offset: 0, size: 0x8000 }));
    new Uint8Array(mapping.memory)[4] = 99;
    const read = watch(port.access({ region: 1, offset: 4, readBytes: 1 }));
    expect(read.values).toEqual([]);
    clock.flush();
    expect([...(read.values[0] ?? [])]).toEqual([99]);
  });

  it('refuse an access outside the region, misaligned, or of both kinds', () => {
    const { clock, port } = opened();
    const seen = [
      { region: 2, offset: 0x1000, readBytes: 1 },
      { region: 2, offset: 2, readBytes: 4 },
      { region: 2, offset: 0, readBytes: 1, write: Uint8Array.of(1) },
      { region: 3, offset: 0, readBytes: 1 },
    ].map((request) => watch(port.access(request)));
    clock.flush();
    expect(seen.map(({ error }) => error?.code)).toEqual(['VFIO_E_RANGE', 'VFIO_E_RANGE', 'VFIO_E_RANGE', 'VFIO_E_NO_REGION']);
  });
});
