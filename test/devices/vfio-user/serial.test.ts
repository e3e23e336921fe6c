import { of, Subject, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Call } from '../../../src/devices/port.js';
import { Serial } from '../../../src/devices/vfio-user/serial.js';
import { VfioError } from '../../../src/errors.js';
import { marbles } from '../../../src/testing/index.js';

describe('Serial', () => {
  it('makes one call after the other, in the order of their subscriptions, also after one that failed', () => {
    marbles((t) => {
      const serial = new Serial();
      t.expect(serial.run(() => t.cold('--(a|)'))).toBe('--(a|)');
      t.expect(serial.run(() => t.cold('-#'))).toBe('---#');
      t.expect(serial.run(() => t.cold('-(b|)'))).toBe('----(b|)');
    });
  });

  it('runs a call to its end when nobody waits for it any more', () => {
    const serial = new Serial();
    const made: string[] = [];
    serial.run(() => of('a').pipe(tap((value) => made.push(value)))).subscribe().unsubscribe();
    serial.run(() => of('b').pipe(tap((value) => made.push(value)))).subscribe();
    expect(made).toEqual(['a', 'b']);
  });

  it('hands a result that nobody took to whoever disposes of it, and no other', () => {
    const serial = new Serial();
    const [first, late] = [new Subject<string>(), [] as string[]];
    const run = (call: () => Call<string>) => serial.run(call, (value) => late.push(value)).subscribe();
    const left = [run(() => first), run(() => of('in its turn'))];
    run(() => of('taken'));
    for (const one of left) one.unsubscribe();
    first.next('on its way');
    first.complete();
    expect(late).toEqual(['on its way', 'in its turn']);
  });

  it('keeps 256 calls waiting, and no more', () => {
    const serial = new Serial();
    const first = new Subject<string>();
    const answers: string[] = [];
    const codes: unknown[] = [];
    serial.run(() => first).subscribe({ next: (answer) => answers.push(answer), error: expect.unreachable });
    for (let n = 0; n < 257; n += 1) serial.run(() => of('later')).subscribe({ next: (answer) => answers.push(answer), error: (error: unknown) => codes.push(VfioError.is(error) && error.code) });
    expect(codes).toEqual(['VFIO_E_LIMIT']);
    first.next('first');
    first.complete();
    serial.run(() => of('last')).subscribe({ next: (answer) => answers.push(answer), error: expect.unreachable });
    expect([answers.length, answers[0], answers.at(-1)]).toEqual([258, 'first', 'last']);
  });

  it('refuses none that takes away, and has room for all of them when they are answered at once', () => {
    const serial = new Serial();
    const first = new Subject<string>();
    const order: (string | number)[] = [];
    const told = { next: (answer: string | number) => order.push(answer), error: expect.unreachable };
    serial.run(() => first).subscribe(told);
    for (let n = 0; n < 256; n += 1) serial.run(() => of(n)).subscribe(told);
    for (let n = 256; n < 10_000; n += 1) serial.release(() => of(n)).subscribe(told);
    first.next('first');
    first.complete();
    expect(order).toEqual(['first', ...Array.from({ length: 10_000 }, (_, n) => n)]);
  });
});
