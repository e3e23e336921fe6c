import { firstValueFrom, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { realClock } from '../../../src/clock.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { encodeDmaMap, encodeDmaUnmap } from '../../../src/devices/vfio-user/messages/dma.js';
import { ServedDma } from '../../../src/devices/vfio-user/served-dma.js';
import { codeOf, now } from '../../support/devices.js';
import { openedSample } from '../authored/sample.js';

const calls = linuxSyscalls();
const page = 4096;

describe('the memory of a client', () => {
  it('is no more than so many ranges, and of those with a file fewer', async () => {
    const port = openedSample(realClock);
    const dma = new ServedDma(port, calls, { read: () => of(new Uint8Array(0)), write: () => of(undefined) }, { all: 3, mapped: 2 });
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
});
