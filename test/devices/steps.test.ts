import { defer, EMPTY, from, map, NEVER, Observable, of, Subject, take, tap, throwError, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { ask, nowCall, type Leave } from '../../src/devices/call.js';
import { all, callInTurn, steps } from '../../src/devices/steps.js';
import { marbles } from '../../src/testing/index.js';
import { now } from '../support/devices.js';

const broken = new Error('broken');

describe('steps', () => {
  it('makes one call after the other, those that answer at once and those that take their time', () => {
    marbles((t) => {
      const call = steps(function* () {
        const first = (yield of('a')) as string;
        const second = (yield t.cold('--b|')) as string;
        yield EMPTY;
        return first + second + ((yield nowCall(() => 'c')) as string);
      });
      t.expect(call, '^').toBe(' ---(x|)', { x: 'abc' });
      t.expect(call, '-^').toBe('----(x|)', { x: 'abc' });
    });
  });

  it('begins with each subscription, and not before', () => {
    let begun = 0;
    const call = steps(function* () {
      begun += 1;
      yield EMPTY;
      return begun;
    });
    expect(begun).toBe(0);
    expect([now(call), now(call)]).toEqual([1, 2]);
  });

  it('throws where a call fails, which may be caught; else it is the failure', () => {
    marbles((t) => {
      const call = (caught: boolean) => steps(function* () {
        try {
          yield t.cold('--#', undefined, broken);
          return 'not reached';
        } catch (error) {
          if (!caught) throw error;
          return error;
        }
      });
      t.expect(call(true)).toBe(' --(x|)', { x: broken });
      t.expect(call(false)).toBe('--#', undefined, broken);
      t.expect(steps(function* () { yield EMPTY; throw broken; })).toBe('#', undefined, broken);
    });
  });

  it('begins nothing more of the steps within it when it is left from within one of them', () => {
    const did: string[] = [];
    const first = new Subject<void>();
    const leaves: (Leave | undefined)[] = [];
    const inner = steps(function* () {
      yield nowCall(() => { leaves[0]?.(); });
      did.push('after');
      yield nowCall(() => did.push('begun'));
    });
    const outer = steps(function* () {
      yield first;
      yield inner;
    });
    leaves.push(ask(outer, { closed: false, answered: () => did.push('answered'), failed: () => did.push('failed') }));
    first.complete();
    expect(did).toEqual([]);
  });

  it('ends where it stands when it is unsubscribed: the call is left, `finally` runs, nothing follows', () => {
    marbles((t) => {
      const did: string[] = [];
      const call = steps(function* () {
        try {
          yield t.cold('----|');
          did.push('next');
        } finally {
          did.push('finally');
        }
      });
      t.expect(call, '^-!').toBe('');
      t.at('---d', { d: () => expect(did).toEqual(['finally']) });
      t.atEnd(() => expect(did).toEqual(['finally']));
    });
  });

  it('makes no further call when it is unsubscribed from within one, at any depth', () => {
    for (const leaves of ['a call', 'the steps themselves'] as const) {
      const did: string[] = [];
      const end = new Subject<void>();
      const inner = steps(function* () {
        try {
          if (leaves === 'a call') yield nowCall(() => end.next());
          else end.next();
          yield nowCall(() => did.push('a further call'));
        } finally {
          did.push('finally');
        }
      });
      const outer = steps(function* () {
        yield inner;
        did.push('a further step');
      });
      const subscription = new Observable<void>((subscriber) => {
        end.subscribe({ next: () => subscriber.unsubscribe(), error: () => undefined });
        return outer.subscribe(subscriber);
      }).subscribe({ error: () => undefined });
      expect([did, subscription.closed], leaves).toEqual([['finally'], true]);
    }
  });

  it('takes a hundred thousand calls that answer at once: a loop, and no stack', () => {
    expect(now(steps(function* () {
      let sum = 0;
      for (let n = 0; n < 100_000; n++) sum += (yield of(1)) as number;
      return sum;
    }))).toBe(100_000);
  });
});

describe('all', () => {
  it('makes all calls at once and answers when the last has, in the order in which they came', () => {
    marbles((t) => {
      const calls = [t.cold('---a|'), of('b'), nowCall(() => 'c'), t.cold('-d|')];
      t.expect(all(calls, (call) => call).pipe(map((answers) => answers.join('')))).toBe('----(x|)', { x: 'bcda' });
      t.expect(all([], () => NEVER)).toBe('(x|)', { x: [] });
    });
  });

  it('fails with the first that does, leaves the others, and makes no more', () => {
    marbles((t) => {
      const slow = t.cold('-----a|');
      t.expect(all([slow, t.cold('--#', undefined, broken)], (call) => call)).toBe('--#', undefined, broken);
      t.expectSubscriptions(slow).toBe('^-!');
      t.expect(all([throwError(() => broken), NEVER], (call) => call)).toBe('#', undefined, broken);
      t.expect(all([1], () => { throw broken; })).toBe('#', undefined, broken);
    });
  });

  it('leaves them when it is unsubscribed', () => {
    marbles((t) => {
      const slow = t.cold('-----a|');
      t.expect(all([slow, of('b')], (call) => call), '^-!').toBe('');
      t.expectSubscriptions(slow).toBe('^-!');
    });
  });
});

describe('callInTurn', () => {
  it('makes a call for each input, one after the other, and completes after the last', () => {
    marbles((t) => {
      const inputs = t.cold('                            ab---c|   ');
      t.expect(inputs.pipe(callInTurn((input) => t.cold('--(x|)', { x: input })))).toBe('--a-b--(c|)');
      t.expect(inputs.pipe(callInTurn((input) => nowCall(() => input)))).toBe('ab---c|');
      t.expect(inputs.pipe(callInTurn((input) => t.cold('-----(x|)', { x: input }))), '^--!').toBe('');
    });
  });

  it('does what comes afterwards when everybody behind has had the answer, before the next call', () => {
    const did: string[] = [];
    const call = (input: number) => nowCall(() => { did.push(`call ${input}`); return input; });
    const inputs = new Subject<number>();
    inputs.pipe(callInTurn(call, (input) => did.push(`after ${input}`))).subscribe({
      next: (answer) => {
        did.push(`told ${answer}`);
        if (answer < 2) inputs.next(answer + 1);
      },
      error: () => undefined,
    });
    inputs.next(1);
    expect(did).toEqual(['call 1', 'told 1', 'after 1', 'call 2', 'told 2', 'after 2']);
  });

  it('fails with its source, with a call, with one that cannot be made, and with what comes afterwards', () => {
    marbles((t) => {
      t.expect(t.cold('-#', undefined, broken).pipe(callInTurn(() => NEVER))).toBe('-#', undefined, broken);
      t.expect(t.cold('-a').pipe(callInTurn(() => throwError(() => broken)))).toBe('-#', undefined, broken);
      t.expect(t.cold('-a').pipe(callInTurn(() => { throw broken; }))).toBe('-#', undefined, broken);
      t.expect(t.cold('-a').pipe(callInTurn(() => of('b'), () => { throw broken; }))).toBe('-(b#)', { b: 'b' }, broken);
    });
  });

  it('leaves source and call when it is unsubscribed, from within an answer too', () => {
    marbles((t) => {
      const [inputs, slow] = [t.cold('-a-b'), t.cold('-----x|')];
      t.expect(inputs.pipe(callInTurn(() => slow)), '^--!').toBe('');
      t.expectSubscriptions(inputs).toBe('^--!');
      t.expectSubscriptions(slow).toBe('-^-!');
    });
    const did: string[] = [];
    const inputs = new Subject<string>();
    const subscription = inputs.pipe(callInTurn((input) => of(input), () => did.push('after'))).subscribe({ next: () => subscription.unsubscribe(), error: () => undefined });
    inputs.next('a');
    expect([did, inputs.observed]).toEqual([[], false]);
    const told: number[] = [];
    const counting = defer(() => from([1, 2, 3])).pipe(tap((input) => told.push(input)));
    expect(now(counting.pipe(callInTurn((input) => of(input)), take(2), toArray()))).toEqual([1, 2]);
    expect(told).toEqual([1, 2]);
  });
});
