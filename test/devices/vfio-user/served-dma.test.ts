import { firstValueFrom, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import { encodeDmaMap, encodeDmaUnmap } from '../../../src/devices/vfio-user/messages/dma.js';
import { ServedDma } from '../../../src/devices/vfio-user/served-dma.js';
import { codeOf, now } from '../../support/devices.js';
import { faultyBinding } from '../../support/faulty-binding.js';
import { openMaps } from '../../support/vfio-user/raw-peer.js';
import { openedSample } from '../authored/sample.js';

const calls = linuxSyscalls();
const page = 4096;

describe('the memory of a client', () => {
  it('is no more than so many ranges, and of those with a file fewer', async () => {
    const port = openedSample(realClock);
    const dma = new ServedDma(port, calls, { read: () => of(new Uint8Array(0)), write: () => of(undefined) }, { all: 3, mapped: 2, mappedBytes: 100 * page });
    const file = calls.memfd('dma', page);
    const payload = (n: number) => encodeDmaMap({ iova: BigInt(n * page), size: page, offset: 0, read: true, write: true });
    const map = (n: number, fds: readonly number[]) => firstValueFrom(dma.map(payload(n), fds));
    await map(0, [file]);
    await map(1, [file]);
    expect(codeOf(() => now(dma.map(payload(2), [file])))).toBe('VFIO_E_LIMIT');
    await map(2, []);
    expect(codeOf(() => now(dma.map(payload(3), [])))).toBe('VFIO_E_LIMIT');
    await firstValueFrom(dma.unmap(encodeDmaUnmap({ iova: 0n, size: page })));
    await map(3, [file]);
    expect(dma.ranges.map(({ iova }) => Number(iova) / page)).toEqual([1, 2, 3]);
    calls.close(file);
    await port[Symbol.asyncDispose]();
    dma.release();
  });

  it('is given back as far as the kernel lets it: where it has joined mappings there may be no room to part them', async () => {
    const faulty = faultyBinding(calls.binding, { munmap: ['ENOMEM', 'ENOMEM'] });
    const port = openedSample(realClock);
    const dma = new ServedDma(port, new Syscalls(faulty), { read: () => of(new Uint8Array(0)), write: () => of(undefined) });
    const file = calls.memfd('dma', page);
    const before = openMaps();
    for (let n = 0; n < 3; n += 1) await firstValueFrom(dma.map(encodeDmaMap({ iova: BigInt(n * page), size: page, offset: 0, read: true, write: true }), [file]));
    // The device has let go of it, and the client is told so; its addresses here are another matter.
    await firstValueFrom(dma.unmap(encodeDmaUnmap({ iova: 0n, size: page })));
    expect(dma.ranges.map(({ iova }) => Number(iova) / page)).toEqual([1, 2]);
    await port[Symbol.asyncDispose]();
    expect(openMaps()).toBe(before + 3);
    dma.release();
    expect(openMaps()).toBe(before + 1);
    dma.release();
    expect(openMaps()).toBe(before);
    calls.close(file);
  });

  it('is no more than so many bytes with a file, however short that is in memory', async () => {
    const port = openedSample(realClock);
    const dma = new ServedDma(port, calls, { read: () => of(new Uint8Array(0)), write: () => of(undefined) }, { all: 100, mapped: 100, mappedBytes: 5 * page });
    const file = calls.memfd('dma', 3 * page);
    const payload = (n: number, pages: number) => encodeDmaMap({ iova: BigInt(n * page), size: pages * page, offset: 0, read: true, write: true });
    await firstValueFrom(dma.map(payload(0, 3), [file]));
    expect(codeOf(() => now(dma.map(payload(3, 3), [file])))).toBe('VFIO_E_LIMIT');
    await firstValueFrom(dma.map(payload(3, 2), [file]));
    await firstValueFrom(dma.unmap(encodeDmaUnmap({ iova: 0n, size: 3 * page })));
    await firstValueFrom(dma.map(payload(0, 3), [file]));
    calls.close(file);
    await port[Symbol.asyncDispose]();
    dma.release();
  });
});
