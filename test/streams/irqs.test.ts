import { defer, map, of } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { irqs } from '../../src/streams/irqs.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions } from '../support/devices.js';

const [msi, msix, own] = [1, 2, 6];
const manyIrqs = { ...twoRegions, irqs: { msi: 4, msix: 8, device: 2 } };

describe('irqs', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      const raise = (vector: number) => (): void => { driver.raise({ index: msix, vector }); };
      t.at('                                        --a-----a--', { a: raise(0) });
      t.at('                                        ----b---b--', { b: raise(2) });
      const names = ['a', '', 'b'];
      t.expect(irqs(device, msix, [0, 2]).pipe(map(({ line }) => names[line.vector ?? 0]))).toBe('--a-b---(ab)');
    });
  });

  it('registers all on subscribe, and gives all back on unsubscribe', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      t.expect(irqs(device, msi, [3, 1]), '-^-!').toBe('');
      t.at('a-b-c', { a: () => expect(driver.irqs).toBe(0), b: () => expect(driver.irqs).toBe(2), c: () => expect(driver.irqs).toBe(0) });
    });
  });

  it('begins once, when all are registered', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      let registered = 0;
      const begin = defer(() => {
        registered = driver.irqs;
        driver.raise({ index: msi, vector: 1 });
        return of('dropped');
      });
      t.expect(irqs(device, msi, [3, 1], { begin }).pipe(map(({ line }) => `${line.vector}`)), '-^-!').toBe('-1');
      t.atEnd(() => expect(registered).toBe(2));
    });
  });

  it('each vector is armed by itself, and one that is masked keeps what comes', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      const told = map(({ line, count }: { readonly line: { readonly vector?: number }; readonly count: bigint }) => `${line.vector}:${count}`);
      t.expect(irqs(device, own, [0, 1]).pipe(told)).toBe('--<0:1>----<1:1>');
      t.at('-m-----u', {
        m: () => { device.port.setIrqs({ index: own, action: 'mask', data: 'bool', vectors: [false, true] }).subscribe(); },
        u: () => { device.port.setIrqs({ index: own, action: 'unmask', data: 'none', start: 1, count: 1 }).subscribe(); },
      });
      t.at('--x', { x: () => { driver.raise({ index: own, vector: 0 }); driver.raise({ index: own, vector: 1 }); } });
    });
  });

  it('fails whole: a vector that is in use, one that is none, one too many', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      t.expect(irqs(device, msi, [0, 1])).toBe('');
      t.expect(irqs(device, msi, [2, 1])).toBe('#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(irqs(device, msi, [2])).toBe('#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(irqs(device, msi, [4])).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.expect(irqs(device, msi, [])).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
      t.expect(irqs(device, 3, [0])).toBe('#', undefined, { code: 'VFIO_E_NO_IRQ' });
      t.at('-x', { x: () => expect(driver.irqs).toBe(2) });
    });
  });

  it('ends for all when one fails', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, manyIrqs);
      t.expect(irqs(device, msix, [0, 1, 5])).toBe('--#', undefined, { code: 'VFIO_E_CLOSED' });
      t.at('--x', { x: () => { void device.close(); } });
      t.atEnd(() => expect(driver.irqs).toBe(0));
    });
  });
});
