import { EMPTY, filter, firstValueFrom, map, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DeviceBehaviour } from '../../../src/devices/authored/behaviour.js';
import { openDevice, pciDevice } from '../../../src/devices/index.js';
import { marbles } from '../../../src/testing/index.js';
import { codeOf, now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { openedSample, sample } from './sample.js';

/** A register that counts its writes, and interrupts at each. */
const counter: DeviceBehaviour = ({ accesses }) => {
  let writes = 0;
  return accesses.pipe(
    tap((access) => {
      if (access.kind === 'read') access.answer(writes);
      else writes += 1;
    }),
    filter(({ kind }) => kind === 'write'),
    map(() => ({ message: 0 })),
  );
};
const write = { region: 0, offset: 0, write: Uint8Array.of(0, 0, 0, 0) };
const read = { region: 0, offset: 0, readBytes: 4 };

describe('pciDevice', () => {
  it('is a stream: accesses come, irqs go', () => {
    marbles((t) => {
      const port = openedSample(t.clock, counter);
      const irq = now(port.irq({ index: 1 }));
      t.at('--W------R--W', { W: () => now(port.access(write)), R: () => expect(now(port.access(read))[0]).toBe(1) });
      t.expect(irq.next().pipe(map(({ count }) => count))).toBe('--(I|)', { I: 1n });
      t.expect(irq.next().pipe(map(({ count }) => count)), '---^').toBe('------------(I|)', { I: 1n });
    });
  });

  it('is a device like any other', async () => {
    const device = await firstValueFrom(openDevice(pciDevice(sample, counter)));
    expect([[...device.regions.keys()], device.currentState.state]).toEqual([[0, 2, 7], 'running']);
    expect(await firstValueFrom(device.config?.read() ?? EMPTY)).toMatchObject({ vendorId: 0x1234, interruptPin: 1 });
    await device.close();
  });

  it('each time it is opened is in its state after a reset, and so it is after each', () => {
    const clock = virtualClock();
    const [first, second] = [openedSample(clock, counter), openedSample(clock, counter)];
    now(first.access(write));
    expect([now(first.access(read))[0], now(second.access(read))[0]]).toEqual([1, 0]);
    first.reset().subscribe();
    clock.flush();
    expect(now(first.access(read))[0]).toBe(0);
  });

  it('refuses what cannot be when it is made', () => {
    expect(codeOf(() => pciDevice({ ...sample, vendorId: -1 }, counter))).toBe('VFIO_E_RANGE');
  });
});
