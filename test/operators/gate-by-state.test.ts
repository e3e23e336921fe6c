import { Subject, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { gateByState } from '../../src/operators/gate-by-state.js';
import { transition } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { openedNow, twoRegions, type Opened } from '../support/devices.js';

const fail = (error: unknown): never => { throw error; };

/** A device that stops from frame 5 to 8, and runs again from 10 to 13. */
function stopping(t: MarbleTest): Opened {
  const opened = openedNow(t.clock, { ...twoRegions, remap: false, migration: 1 });
  opened.driver.faults.arcLatencyUs = 3;
  t.at('-----s----r', { s: () => { transition(opened.device, 'stop').subscribe({ error: fail }); }, r: () => { transition(opened.device, 'running').subscribe({ error: fail }); } });
  return opened;
}

describe('gateByState', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device } = stopping(t);
      const source = t.hot('                                        -a-b--c--d-e--f-|');
      t.expectDevice(device).toShow({ state: '                               -----[s--]-[r--]' });
      t.expect(source.pipe(gateByState(device, ['running']))).toBe('                 -a-b----------f-|');
      t.expect(source.pipe(gateByState(device, ['running'], { hold: 9 }))).toBe('    -a-b---------<c,d,e>f-|');
    });
  });

  it('is shut by a write that leads out, at once, and stays open through one that stays inside', () => {
    marbles((t) => {
      const { device } = stopping(t);
      const source = t.hot('abcdefghijklmnop|');
      t.expect(source.pipe(gateByState(device, ['running']))).toBe('abcde---------op|');
      t.expect(source.pipe(gateByState(device, ['running', 'stop']))).toBe('abcdefghijklmnop|');
      t.expect(source.pipe(gateByState(device, ['stop']))).toBe('---------j------|');
    });
  });

  it('keeps no more than it is told', () => {
    marbles((t) => {
      const { device } = stopping(t);
      t.expect(t.hot('------cde').pipe(gateByState(device, ['running'], { hold: 2 }))).toBe('--------#', undefined, { code: 'VFIO_E_LIMIT', operation: 'gateByState', device: 'software0' });
      t.expect(t.hot('------cd').pipe(gateByState(device, ['running'], { hold: 2 }))).toBe('-------------<c,d>');
      t.expect(t.hot('------c').pipe(gateByState(device, ['running'], { hold: 0 }))).toBe('------#', undefined, { code: 'VFIO_E_LIMIT' });
    });
  });

  it('keeps the order where what it passes on makes it pass on more, or shuts it', () => {
    marbles((t) => {
      const { device } = stopping(t);
      const shut = tap((value: string) => { if (value === 'c') transition(device, 'stop').subscribe({ error: fail }); });
      const seen: string[] = [];
      t.expect(t.hot('------cd----------e|').pipe(gateByState(device, ['running'], { hold: 9 }), tap((value) => seen.push(value)), shut)).toBe('-------------<c,d>');
      t.atEnd(() => expect(seen).toEqual(['c', 'd']));
    });
  });

  it('passes one value after the other, also where one brings another', () => {
    marbles((t) => {
      const { device } = stopping(t);
      const source = new Subject<string>();
      t.at('------c', { c: () => { source.next('c'); source.next('d'); } });
      const seen: string[] = [];
      source.pipe(gateByState(device, ['running'], { hold: 9 })).subscribe({
        next: (value) => {
          seen.push(value);
          if (value === 'c') source.next('x');
          seen.push(`${value} done`);
        },
        error: () => undefined,
      });
      t.atEnd(() => expect(seen).toEqual(['c', 'c done', 'd', 'd done', 'x', 'x done']));
    });
  });

  it('passes what it keeps before it completes, and ends with its device', () => {
    marbles((t) => {
      const { device } = stopping(t);
      t.expect(t.hot('------c|').pipe(gateByState(device, ['running'], { hold: 1 }))).toBe('-------------<c,|>');
      t.expect(t.hot('------c|').pipe(gateByState(device, ['resuming'], { hold: 1 }))).toBe('----------------#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expect(t.hot('------#').pipe(gateByState(device, ['running']))).toBe('------#');
      t.at('----------------x', { x: () => void device.close() });
    });
  });
});
