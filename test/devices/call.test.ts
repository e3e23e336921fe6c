import { EMPTY, of, Subject, throwError } from 'rxjs';
import { describe, expect, it, vi } from 'vitest';
import { ask, deferred, directCall, nowCall, ownedCall, type Asker } from '../../src/devices/call.js';

/** Who waits, and what it was told. */
function listener(): Asker<unknown> & { readonly heard: unknown[] } {
  const heard: unknown[] = [];
  return { closed: false, heard, answered: (value) => heard.push(value), failed: (error) => heard.push(['failed', error]) };
}

describe('ask', () => {
  it('is told at once what a now call says, with no stream around it', () => {
    const asker = listener();
    const call = nowCall(() => 7);
    const subscribe = vi.spyOn(call, 'subscribe');
    expect(ask(call, asker)).toBeUndefined();
    expect(subscribe).not.toHaveBeenCalled();
    ask(nowCall(() => { throw new Error('no'); }), asker);
    expect(asker.heard).toEqual([7, ['failed', new Error('no')]]);
  });

  it('takes any other Observable as well, one without a value too', () => {
    const asker = listener();
    for (const call of [of(7), EMPTY, throwError(() => new Error('no'))]) expect(ask(call, asker)).toBeUndefined();
    expect(asker.heard).toEqual([7, undefined, ['failed', new Error('no')]]);
  });

  it('waits for one that takes its time, until it is left', () => {
    const asker = listener();
    const [late, never] = [new Subject<number>(), new Subject<number>()];
    ask(late, asker);
    late.next(7);
    expect(asker.heard).toEqual([]);
    late.complete();
    expect(asker.heard).toEqual([7]);
    ask(never, asker)?.();
    expect(never.observed).toBe(false);
  });
});

describe('directCall', () => {
  it('is an Observable like any other: cold, one call for each subscription, left when it is unsubscribed', () => {
    const told: unknown[] = [];
    let left = 0;
    const askers: Asker<number>[] = [];
    const call = directCall<number>((asker) => { askers.push(asker); return () => { left += 1; }; });
    expect(askers).toEqual([]);
    const [first, second] = [call.subscribe({ error: () => undefined }), call.subscribe({ next: (value) => told.push(value), error: () => undefined, complete: () => told.push('|') })];
    first.unsubscribe();
    expect([left, askers[0]?.closed, askers[1]?.closed]).toEqual([1, true, false]);
    askers[1]?.answered(7);
    expect([told, second.closed]).toEqual([[7, '|'], true]);
    expect(call.subscribe({ error: (error: unknown) => told.push(error) }).closed).toBe(false);
    askers[2]?.failed('no');
    expect(told).toEqual([7, '|', 'no']);
  });
});

describe('deferred', () => {
  it('is made anew for each, and fails with what its making throws', () => {
    const asker = listener();
    let made = 0;
    const call = deferred(() => nowCall(() => (made += 1)));
    expect(made).toBe(0);
    ask(call, asker);
    ask(call, asker);
    ask(deferred(() => { throw new Error('no'); }), asker);
    expect(asker.heard).toEqual([1, 2, ['failed', new Error('no')]]);
  });
});

describe('ownedCall', () => {
  it('runs to its end whoever listens, and what nobody takes is disposed of', () => {
    const late: number[] = [];
    const [begun, asker] = [new Subject<number>(), listener()];
    const call = ownedCall(() => begun, (value) => late.push(value));
    ask(call, asker)?.();
    ask(call, asker);
    ask(call, { ...asker, closed: true });
    begun.next(7);
    begun.complete();
    expect([asker.heard, late]).toEqual([[7], [7, 7]]);
  });

  it('tells nobody who has left of a failure, and everybody else that it could not begin', () => {
    const [begun, asker] = [new Subject<number>(), listener()];
    ask(ownedCall(() => begun), asker)?.();
    begun.error(new Error('no'));
    expect(asker.heard).toEqual([]);
    ask(ownedCall(() => { throw new Error('not begun'); }), asker);
    expect(asker.heard).toEqual([['failed', new Error('not begun')]]);
  });
});
