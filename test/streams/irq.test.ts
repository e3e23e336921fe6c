import { map, Subject, take } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { irq } from '../../src/streams/irq.js';
import { marbles } from '../../src/testing/index.js';
import { type Alter, alteredIrq, openedNow, twoRegions } from '../support/devices.js';

const msi = { index: 1 };
const counts = map(({ count }: { readonly count: bigint }) => `${count}`);

describe('irq', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const arming = new Subject<string>();
      const { device, driver } = openedNow(t.clock, twoRegions, logArming((what) => arming.next(what)));
      t.at('              --x---(xx)---', { x: () => driver.raiseMsi() });
      t.expect(arming).toBe('a-(da)(da)---');
      t.expect(irq(device, msi).pipe(map(({ count, line, atNs }) => `${line.index} ${count} ${atNs}`))).toBe('--a---b------', { a: '1 1 2000', b: '1 2 6000' });
    });
  });

  it('drops nothing: what comes while the subscriber is busy is the next count', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.at('--x', { x: () => driver.raiseMsi() });
      let first = true;
      const busy$ = irq(device, msi).pipe(map(({ count }) => {
        if (first) { driver.raiseMsi(); driver.raiseMsi(); }
        first = false;
        return `${count}`;
      }));
      t.expect(busy$).toBe('--<1,2>');
    });
  });

  it('is armed again only when the subscriber has returned', () => {
    marbles((t) => {
      const armed: string[] = [];
      const { device, driver } = openedNow(t.clock, twoRegions, logArming((what) => armed.push(what)));
      t.at('-x', { x: () => driver.raiseMsi() });
      t.expect(irq(device, msi).pipe(map(() => armed.push('subscriber')), map(() => 's'))).toBe('-s');
      t.atEnd(() => expect(armed).toEqual(['a', 'd', 'subscriber', 'a']));
    });
  });

  it('is enabled on subscribe and released on unsubscribe, by the subscriber or by an operator', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const signals$ = irq(device, msi);
      t.at('abc-d--e-f', {
        a: () => driver.raiseMsi(), b: () => expect(driver.irqs).toBe(0), c: () => expect(driver.irqs).toBeGreaterThan(0),
        d: () => expect(driver.irqs).toBe(0), e: () => driver.raiseMsi(), f: () => expect(driver.irqs).toBe(0),
      });
      t.expect(signals$, '--^!').toBe('');
      t.expect(signals$.pipe(take(1), counts), '-----^').toBe('-------<1,|>');
    });
  });

  it('fails where the device has no such irq, and when the device is closed', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(irq(device, { index: 3 })).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.expect(irq(device, { index: 1, vector: 1 })).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.expect(irq(device, msi)).toBe('---#', undefined, { code: 'VFIO_E_CLOSED' });
      t.at('---c', { c: () => void device.close() });
      t.expect(irq(device, msi), '----^').toBe('----#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expectDevice(device).toBeReleased();
    });
  });
});

function logArming(log: (what: 'a' | 'd') => void): Alter {
  return (port) => ({
    irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, {
      next: () => { log('a'); return handle.next().pipe(map((signal) => { log('d'); return signal; })); },
    }))),
  });
}
