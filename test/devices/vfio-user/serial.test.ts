import { of, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { Serial } from '../../../src/devices/vfio-user/serial.js';
import { marbles } from '../../../src/testing/index.js';

describe('Serial', () => {
  it('makes one call after the other, in the order of their subscriptions, also after one that failed', () => {
    marbles((t) => {
      const serial = new Serial();
      t.expect(serial.run(() => t.cold('--a|'))).toBe('--a|');
      t.expect(serial.run(() => t.cold('-#'))).toBe('----#');
      t.expect(serial.run(() => t.cold('-b|'))).toBe('-----b|');
    });
  });

  it('runs a call to its end when nobody waits for it any more', () => {
    const serial = new Serial();
    const made: string[] = [];
    serial.run(() => of('a').pipe(tap((value) => made.push(value)))).subscribe().unsubscribe();
    serial.run(() => of('b').pipe(tap((value) => made.push(value)))).subscribe();
    expect(made).toEqual(['a', 'b']);
  });
});
