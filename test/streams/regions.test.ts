import { ignoreElements, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { regions } from '../../src/streams/regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { marbles } from '../../src/testing/index.js';
import { now, openedNow, twoRegions, whole } from '../support/devices.js';

describe('regions', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.at('               -----r--------s--', { r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.expectDevice(device).toShow({
        signal: '            -----1--------1--',
        unmap: '             -----0-----------',
        map: '               (01)----------0--' });
      const mappable = map((layouts: ReadonlyMap<number, { readonly mmappable: boolean }>) => [...layouts].filter(([, info]) => info.mmappable).map(([index]) => index).join());
      t.expect(regions(device).pipe(mappable)).toBe('a----b--------a--', { a: '0,1', b: '1' });
    });
  });

  it('tells a batch that changed several regions once, and one that changed nothing not at all', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.at('--b--n', { b: () => { driver.revoke(0); driver.revoke(1); }, n: () => { driver.restore(0); driver.revoke(0); } });
      t.expect(regions(device).pipe(map((layouts) => layouts.size))).toBe('x-x', { x: 2 });
    });
  });

  it('tells after the mappings follow, and a region its own layout only', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('', {});
      t.at('--r', { r: () => driver.revoke(0) });
      t.expect(regions(device).pipe(map(() => device.region(0).mapped.areas)), '-^').toBe('-ab', { a: [whole], b: [] });
      t.expect(device.region(1).layout.pipe(map(({ index }) => index))).toBe('1', { 1: 1 });
      t.expect(device.region(0).layout.pipe(map(({ mmappable }) => mmappable))).toBe('y-n', { y: true, n: false });
    });
  });

  it('completes when the device is closed, with the last layouts for who comes later', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.at('--c', { c: () => void device.close() });
      t.expect(regions(device).pipe(map(({ size }) => size))).toBe('2-|', { 2: 2 });
      t.expect(regions(device).pipe(map(({ size }) => size)), '---^').toBe('---<2,|>', { 2: 2 });
      expect(now(regions(device)).size).toBe(2);
    });
  });
});
