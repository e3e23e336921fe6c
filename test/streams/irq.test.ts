import { concatMap, map, Subject, take, tap, throwError } from 'rxjs';
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

  it('begins what makes the device interrupt when it is registered, however long that takes', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({ irq: (line, options) => t.cold('--(r|)').pipe(concatMap(() => port.irq(line, options))) }));
      const write = t.cold('w|');
      const rings = write.pipe(tap({ complete: () => driver.raiseMsi() }));
      t.expect(irq(device, msi, { begin: rings }).pipe(counts), '^----!').toBe('---1--');
      t.expectSubscriptions(write).toBe('--^!');
    });
  });

  it('fails as that does, and ends it with itself', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(irq(device, msi, { begin: throwError(() => new Error('no')) })).toBe('#', undefined, new Error('no'));
      const endless = t.cold('---e---e');
      t.expect(irq(device, msi, { begin: endless }), '-^---!').toBe('');
      t.expectSubscriptions(endless).toBe('-^---!');
      t.at('------x', { x: () => expect(driver.irqs).toBe(0) });
    });
  });

  it('fails where the device has no such irq, and when the device is closed', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(irq(device, { index: 3 })).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.expect(irq(device, { index: 1, vector: 4 })).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.expect(irq(device, msi)).toBe('---#', undefined, { code: 'VFIO_E_CLOSED' });
      t.at('---c', { c: () => void device.close() });
      t.expect(irq(device, msi), '----^').toBe('----#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expectDevice(device).toBeReleased();
    });
  });
});

describe('irq of INTx', () => {
  const intx = { index: 0 };

  for (const unmaskBy of ['call', 'eventfd'] as const) {
    it(`is its diagram, unmasked by ${unmaskBy}`, () => {
      marbles((t) => {
        const unmasked = new Subject<string>();
        const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({
          irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, {
            unmask: () => { unmasked.next('u'); return handle.unmask(); },
            ack: (count) => { unmasked.next('u'); return handle.ack(count); },
          }))),
        }));
        let causes = 0;
        const clear = (): void => {
          causes -= 1;
          if (causes === 0) driver.lower(intx);
        };
        const assert = (more: number) => (): void => { causes += more; driver.raise(intx); };
        t.at('                                                                     --c----d-----', { c: assert(1), d: assert(2) });
        t.expect(unmasked).toBe('                                                  --u----(uu)--');
        t.expect(irq(device, intx, { unmaskBy }).pipe(tap(clear), map(() => 'a'))).toBe('--a----(aa)--');
        t.at('-e', { e: () => expect(driver.irqs).toBe(unmaskBy === 'call' ? 1 : 2) });
      });
    });
  }

  it('does not run beside MSI', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(irq(device, msi), '^---!').toBe('');
      t.expect(irq(device, intx), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY' });
      t.at('-----c', { c: () => driver.raise(intx) });
      t.expect(irq(device, intx).pipe(take(1), counts), '------^').toBe('------<1,|>');
    });
  });
});

describe('irq of ERR and REQ', () => {
  it('is a stream like any other', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, irqs: { err: true, req: true } });
      t.at('                                          --e-r-r', { e: () => driver.raise({ index: 3 }), r: () => driver.raise({ index: 4 }) });
      t.expect(irq(device, { index: 3 }).pipe(counts)).toBe('--1----');
      t.expect(irq(device, { index: 4 }).pipe(counts)).toBe('----1-1');
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
