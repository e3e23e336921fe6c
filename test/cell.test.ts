import { describe, expect, it } from 'vitest';
import { Cell } from '../src/cell.js';
import { marbles } from '../src/testing/index.js';

/** Subscribes, and keeps what comes. */
function log(cell: Cell<string>, each: (value: string) => void = () => undefined): string[] {
  const seen: string[] = [];
  cell.values.subscribe({
    next: (value) => { seen.push(value); each(value); },
    error: (error: unknown) => { throw error; },
    complete: () => seen.push('|'),
  });
  return seen;
}

describe('Cell', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const cell = new Cell<string>('i');
      t.at('                     --a------b----', { a: () => cell.set('a'), b: () => cell.set('b') });
      cell.values.subscribe({ next: (value) => { if (value === 'b') cell.set('c'); }, error: () => undefined });
      t.expect(cell.values).toBe('i-a------(bc)-');
      t.expect(cell.values).toBe('i-a------(bc)-');
      t.expect(cell.values, '----^').toBe('----a----(bc)-');
    });
  });

  it('shows every subscriber the same order, whoever sets within a delivery', () => {
    const cell = new Cell<string>('0');
    const first = log(cell, (value) => { if (value === '1') cell.set('2'); });
    const second = log(cell, (value) => { if (value === '2') cell.set('3'); });
    cell.set('1');
    expect(first).toEqual(['0', '1', '2', '3']);
    expect(second).toEqual(first);
  });

  it('has as `current` what is being delivered, not what waits', () => {
    const cell = new Cell<string>('0');
    const seen: string[] = [];
    log(cell, (value) => { if (value === '1') cell.set('2'); seen.push(cell.current); });
    cell.set('1');
    expect(seen).toEqual(['0', '1', '2']);
    expect(cell.current).toBe('2');
  });

  it('gives who subscribes within a delivery this value once, and then the later ones', () => {
    const cell = new Cell<string>('0');
    const late: string[][] = [];
    log(cell, (value) => { if (value === '1') { late.push(log(cell)); cell.set('2'); } });
    cell.set('1');
    expect(late).toEqual([['1', '2']]);
  });

  it('does not deliver to who unsubscribed within the same delivery', () => {
    const cell = new Cell<string>('0');
    log(cell, (value) => { if (value === '1') second.unsubscribe(); });
    const seen: string[] = [];
    const second = cell.values.subscribe({ next: (value) => seen.push(value), error: () => undefined });
    cell.set('1');
    expect(seen).toEqual(['0']);
  });

  it('completes everyone, late ones after the last value; then it stays as it is', () => {
    const cell = new Cell<string>('0');
    const early = log(cell);
    cell.complete();
    cell.complete();
    cell.set('1');
    expect(early).toEqual(['0', '|']);
    expect(log(cell)).toEqual(['0', '|']);
    expect(cell.current).toBe('0');
  });

  it('completes behind what is being delivered: nobody misses a value because somebody else closed', () => {
    const cell = new Cell<string>('0');
    const first = log(cell, (value) => { if (value === '1') { cell.set('2'); cell.complete(); cell.set('3'); } });
    const second = log(cell);
    cell.set('1');
    expect(first).toEqual(['0', '1', '2', '|']);
    expect(second).toEqual(first);
    expect(cell.current).toBe('2');
  });
});
