import { concatMap, EMPTY, from, map, of, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DeviceIrq } from '../../../src/devices/authored/behaviour.js';
import { marbles } from '../../../src/testing/index.js';
import { codeOf, now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { config, openedSample, setConfig } from './sample.js';

const up = { intx: true };
const down = { intx: false };

describe('what a device emits', () => {
  it('as a level signals once, and again whenever it is unmasked while it is up', () => {
    marbles((t) => {
      const port = openedSample(t.clock, () => t.cold('--u-----d', { u: up, d: down }));
      const handle = now(port.irq({ index: 0 }));
      const next$ = () => handle.next().pipe(map(({ count }) => count));
      t.at('----m--m--m', { m: () => now(handle.unmask()) });
      t.expect(next$()).toBe('--(s|)', { s: 1n });
      t.expect(next$(), '---^').toBe('----(s|)', { s: 1n });
      t.expect(next$(), '-----^').toBe('-------(s|)', { s: 1n });
      // The last unmask finds it down.
      t.expect(next$(), '--------^--!').toBe('---');
    });
  });

  it('as a level stands in the status register, and is held down by the command register', () => {
    const clock = virtualClock();
    const levels = new Subject<DeviceIrq>();
    const port = openedSample(clock, () => levels);
    const handle = now(port.irq({ index: 0 }));
    setConfig(port, 5, 0x04);
    levels.next(up);
    clock.flush();
    expect([config(port, 6, 1) & 8, now(handle.readNow())]).toEqual([8, undefined]);
    setConfig(port, 5, 0);
    expect(now(handle.readNow())).toBe(1n);
    levels.next(down);
    expect(config(port, 6, 1) & 8).toBe(0);
  });

  it('as a message goes to what is enabled, by its vector; where nothing is it is lost', () => {
    const messages = new Subject<DeviceIrq>();
    const port = openedSample(virtualClock(), () => messages);
    messages.next({ message: 1 });
    const [zero, one] = now(port.irqs(2, [0, 1]));
    expect(codeOf(() => now(port.irq({ index: 1 })))).toBe('VFIO_E_BUSY');
    messages.next({ message: 1 });
    messages.next({ message: 1 });
    expect([zero, one].map((handle) => handle && now(handle.readNow()))).toEqual([undefined, 2n]);
    from([zero, one]).pipe(concatMap((handle) => handle?.close() ?? EMPTY)).subscribe();
    const msi = now(port.irq({ index: 1, vector: 1 }));
    messages.next({ message: 1 });
    expect(now(msi.readNow())).toBe(1n);
  });

  it('tells what there is: five indexes, three of them in use', () => {
    const port = openedSample(virtualClock(), () => of());
    expect([0, 1, 2, 3, 4].map((index) => now(port.irqInfo(index))).map(({ count, maskable, automasked, noResize }) => [count, maskable, automasked, noResize])).toEqual([
      [1, true, true, false], [4, false, false, true], [3, false, false, false], [0, false, false, false], [0, false, false, false],
    ]);
    expect(codeOf(() => now(port.irqInfo(5)))).toBe('VFIO_E_NO_IRQ');
  });
});
