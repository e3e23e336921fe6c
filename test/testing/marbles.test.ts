import { asapScheduler, BehaviorSubject, concat, debounceTime, delay, EMPTY, ignoreElements, interval, map, merge, mergeMap, NEVER, of, ReplaySubject, share, Subject, take, tap, throttleTime, throwError, timeout, timer, timestamp } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';

describe('time', () => {
  it('has frames of a microsecond under operators that count milliseconds', () => {
    marbles((t) => {
      const { scheduler } = t.clock;
      t.expect(timer(5, scheduler)).toBe('5ms <0,|>', { 0: 0 });
      t.expect(t.cold('a').pipe(delay(1, scheduler))).toBe('1ms a');
      t.expect(NEVER.pipe(timeout({ each: 5, scheduler }))).toBe(' 5000us #', undefined, { name: 'TimeoutError' });
      t.expect(interval(2, scheduler).pipe(take(3))).toBe(' 2ms 0 1999us 1 1999us <2,|>', { 0: 0, 1: 1, 2: 2 });
    });
  });

  it('is the same for operators without a scheduler', () => {
    marbles((t) => {
      t.expect(timer(5)).toBe('5ms <0,|>', { 0: 0 });
      t.expect(t.cold('a').pipe(delay(1))).toBe('1ms a');
      t.expect(NEVER.pipe(timeout(5))).toBe('5ms #', undefined, { name: 'TimeoutError' });
      t.expect(interval(2).pipe(take(2))).toBe('2ms 0 1999us <1,|>', { 0: 0, 1: 1 });
      t.expect(t.cold('ab 3ms c').pipe(debounceTime(1))).toBe('- 1ms b 3ms c');
      t.expect(t.cold('a-b 1ms c').pipe(throttleTime(1))).toBe('a-- 1ms c');
      t.expect(of(1).pipe(delay(0.25), timestamp())).toBe('250us <x,|>', { x: { value: 1, timestamp: 0.25 } });
    });
  });

  it('does not drift where milliseconds cannot be exact', () => {
    marbles((t) => {
      const { scheduler } = t.clock;
      const ticks$ = timer(0.1, 0.1, scheduler).pipe(map(() => t.clock.nowNs()));
      t.expect(ticks$.pipe(take(30), map((ns) => Number(ns) % 100_000)), '^ 350us !').toBe('100us 0 99us 0 99us 0', { 0: 0 });
      const debounced = (from: string) => t.cold(from).pipe(debounceTime(0.2, scheduler), map(() => t.clock.nowNs()));
      t.expect(debounced('100us a 49us b')).toBe('350us x', { x: 350_000n });
      t.expect(debounced('100us a')).toBe('300us x', { x: 300_000n });
      // Many intervals that meet in the same frames, each by another rounding.
      const meeting$ = merge(interval(0.1), interval(0.2), interval(0.3), timer(0.3), timer(0.1).pipe(mergeMap(() => timer(0.2)))).pipe(map(() => t.clock.nowNs() % 100_000n));
      let met = 0;
      const count$ = meeting$.pipe(take(400), tap((rest) => {
        expect(rest).toBe(0n);
        met += 1;
      }), ignoreElements());
      t.expect(concat(count$, NEVER)).toBe('');
      t.atEnd(() => expect(met).toBe(400));
    });
  });

  it('moves on for a delay that is too short for a floating-point number', () => {
    marbles((t) => {
      const { scheduler } = t.clock;
      const read: number[] = [];
      t.at(' 1000s x', { x: () => {
        read.push(scheduler.now());
        scheduler.schedule(() => read.push(scheduler.now()), 1e-11);
      } });
      t.atEnd(() => {
        expect(read[1]).toBeGreaterThan(read[0] ?? Infinity);
        expect(t.clock.nowNs()).toBe(1_000_000_000_000n);
      });
    });
  });

  it('is exact on the clock, in one frame a millisecond too', () => {
    marbles(
      (t) => {
        t.expect(t.cold('--a').pipe(delay(3), map(() => t.clock.nowNs()))).toBe('-----a', { a: 5_000_000n });
        t.expect(timer(2)).toBe('--<0,|>', { 0: 0 });
      },
      { unit: 'ms' },
    );
  });

  it('runs microtask-like schedulers in the frame they were asked in', () => {
    marbles((t) => {
      t.expect(t.cold('-a').pipe(delay(0, asapScheduler))).toBe('-a');
    });
  });

  it('refuses to run for ever', () => {
    expect(() => marbles((t) => t.expect(interval(1)).toBe('1ms 0'))).toThrow(/^virtual time does not come to rest: 200000 actions by frame \d+\. Does an interval run that nobody ends/);
  });

  it('stalls only when the test says so', () => {
    marbles((t) => {
      const watch = t.clock.watchStalls();
      const ended = t.clock.watchStalls();
      t.at('-e', { e: () => ended.stop() });
      t.stall('--<50ms>---<10us>');
      t.expect(t.cold('-a-b').pipe(map(() => t.clock.nowNs() / 1_000n))).toBe('-a 50ms b', { a: 1n, b: 50_002n });
      t.atEnd(() => {
        expect(watch.longestNs()).toBe(50_000_000n);
        expect(ended.longestNs()).toBe(0n);
      });
    });
  });
});

describe('sources', () => {
  it('are cold, hot and current values', () => {
    marbles((t) => {
      const hot$ = t.hot('ab^-c--d|');
      const cell$ = t.cell('i', '--a--b--|');
      t.expect(hot$, '---^').toBe('-----d|');
      t.expect(hot$).toBe('--c--d|');
      t.expect(cell$).toBe('i-a--b--|');
      t.expect(cell$, '---^--!').toBe('---a-b');
      t.expect(concat(t.cold('-(ab)|'), t.cold('<c,d>#', undefined, new Error('end')))).toBe('-<a,b>---<c,d>#', undefined, new Error('end'));
      t.expectSubscriptions(hot$).toBe(['^-----!', '---^--!']);
    });
  });

  it('take names of several characters for one frame', () => {
    marbles((t) => {
      t.expect(t.cold('-<pre-copy>-<stop>|', { 'pre-copy': 1, stop: 2 }).pipe(map((n) => n * 2))).toBe('-<one>-b|', { one: 2, b: 4 });
    });
  });

  it('keep the order of the body within a frame: expectations subscribe, then the test acts', () => {
    marbles((t) => {
      const subject$ = new Subject<string>();
      t.at('(ab)', { a: () => subject$.next('first'), b: () => subject$.next('second') });
      t.expect(subject$).toBe('<first,second>');
    });
  });
});

describe('a failure', () => {
  it('shows both lines, marks the first difference and says it', () => {
    expect(failure((t) => t.expect(t.cold('--a-----<long>-a---|')).toBe('--a---b-<long>-a-|'))).toBe(`the observable differs

expected  --a---b-<long>-a-|--
actual    --a-----<long>-a---|
                ^ frame 6: expected <b>, nothing came`);
    expect(failure((t) => t.expect(t.cold('-----1----------1')).toBe('-----1--------1'))).toBe(`the observable differs

expected  -----1--------1--
actual    -----1----------1
                        ^ frame 14: expected <1>, nothing came (it came at 16)`);
    expect(failure((t) => t.expect(t.cold('-a')).toBe('---a'))).toContain('frame 1: nothing expected, <a> came (it was expected at 3)');
    expect(failure((t) => t.expect(t.cold('-a|')).toBe('-a-'))).toContain('frame 2: nothing expected, | came');
  });

  it('shows values that differ, with the names of the expectation where it has one', () => {
    expect(failure((t) => t.expect(t.cold('-ab', { a: { n: 1 }, b: { n: 2 } })).toBe('-bb', { b: { n: 2 } }))).toBe(`the observable differs

expected  -b   b
actual    -<?1>b
           ^ frame 1: expected <b>, <?1> came
  b is { n: 2 }
  <?1> is { n: 1 }`);
    expect(failure((t) => t.expect(t.cold('a')).toBe('a', { a: 5 }))).toContain("<?1> is 'a'");
    expect(failure((t) => t.expect(t.cold('<a,b>', { a: 7, b: 8 })).toBe('<b,a>', { a: 7, b: 8 }))).toContain('frame 0: expected <b>, <a> came');
  });

  it('shows errors by their code', () => {
    const gone = new VfioError('VFIO_E_NO_DEVICE', 'gone', { operation: 'open', errno: 'ENODEV' });
    marbles((t) => t.expect(throwError(() => gone)).toBe('#', undefined, { code: 'VFIO_E_NO_DEVICE', errno: 'ENODEV' }));
    expect(failure((t) => t.expect(throwError(() => gone)).toBe('#', undefined, { code: 'VFIO_E_BUSY' }))).toBe(`the observable differs

expected  #
actual    <#?1>
          ^ frame 0: expected #, <#?1> came
  # is { code: 'VFIO_E_BUSY' }
  <#?1> is VfioError VFIO_E_NO_DEVICE: open: gone (ENODEV) [VFIO_E_NO_DEVICE]`);
  });

  it('shows the neighbourhood of the difference in a long run', () => {
    const long = '-a'.repeat(1_000);
    expect(failure((t) => t.expect(t.cold(`${long}b`)).toBe(`${long}c`))).toBe(`the observable differs (around the first difference, 17 of 1001 frames with events)

expected   1.969ms a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-ac
actual     1.969ms a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-ab
                                                  ^ frame 2000 (2ms): expected <c>, <b> came`);
  });

  it('writes long gaps as durations, in both lines', () => {
    expect(failure((t) => t.expect(t.cold('-a').pipe(delay(50))).toBe('-- 50ms a'))).toBe(`the observable differs

expected   50.001ms -a
actual     50.001ms a-
                    ^ frame 50001 (50.001ms): nothing expected, <a> came (it was expected at 50002 (50.002ms))`);
  });

  it('points at the line of the test', () => {
    const error = thrown((t) => {
      t.expect(EMPTY).toBe('a');
    });
    expect(error.stack?.split('\n').find((line) => line.includes(' at '))).toMatch(/marbles\.test\.ts:\d+:\d+/);
    expect(error).toMatchObject({ name: 'AssertionError', expected: 'a', actual: '|' });
  });

  it('asks matchers of the test runner', () => {
    marbles((t) => t.expect(t.cold('a', { a: { x: 1, y: 2 } })).toBe('a', { a: expect.objectContaining({ x: 1 }) }));
  });

  it('in an action or in user code is not swallowed', () => {
    expect(() => marbles((t) => { t.at('-x', { x: () => expect(1).toBe(2) }); t.expect(NEVER).toBe(''); })).toThrow(/expected 1 to be 2/);
    expect(() => marbles((t) => { t.cold('-#', undefined, new Error('nobody caught me')).subscribe(); t.expect(NEVER).toBe(''); })).toThrow(/nobody caught me/);
  });
});

describe('subscriptions', () => {
  it('are compared one by one', () => {
    marbles((t) => {
      const source$ = t.cold('---a');
      const shared$ = source$.pipe(share());
      t.expect(shared$, '-^----!').toBe('----a');
      t.expect(shared$, '--^-----!').toBe('----a');
      t.expectSubscriptions(source$).toBe('-^------!');
      t.expectSubscriptions(t.hot('-')).toBe([]);
    });
    expect(failure((t) => {
      const source$ = t.cold('---a');
      t.expect(source$, '^---!').toBe('---a');
      t.expectSubscriptions(source$).toBe('^--!');
    })).toBe(`subscription 1 differs (1 expected, 1 came)

expected  ^--!-
actual    ^---!
             ^ frame 3: expected !, nothing came (it came at 4)`);
  });
});

describe('a test that asserts nothing', () => {
  it('fails for an expectation without toBe, at its line', () => {
    const error = thrown((t) => {
      t.expect(EMPTY).toBe('|');
      t.expect(EMPTY);
    });
    expect(error.message).toBe('t.expect(...) asserts nothing: call .toBe(marbles) on it');
    const line = Number(/marbles\.test\.ts:(\d+)/.exec(error.stack ?? '')?.[1]);
    expect(line).toBeGreaterThan(0);
    expect(thrown((t) => { t.expectSubscriptions(t.cold('')); }).message).toBe('t.expectSubscriptions(...) asserts nothing: call .toBe(marbles) on it');
    expect(thrown((t) => { t.expectDevice({ name: 'x' }); }).message).toBe('t.expectDevice(...) asserts nothing: call .toShow(lanes) on it');
  });

  it('fails without any expectation', () => {
    expect(failure(() => undefined)).toMatch(/^the test expects nothing/);
  });

  it('fails when its body is asynchronous', () => {
    const asynchronous = async (t: MarbleTest): Promise<void> => {
      t.expect(EMPTY).toBe('|');
      await Promise.reject(new Error('late'));
    };
    const body: (t: MarbleTest) => unknown = asynchronous;
    expect(failure(body)).toMatch(/^the body of marbles\(\) returned a Promise/);
  });

  it('leaves nothing behind for the next one', () => {
    failure(() => { throw new Error('x'); });
    expect(asapScheduler.now()).toBeGreaterThan(1e12);
    marbles((t) => t.expect(of(1)).toBe('<1,|>', { 1: 1 }));
    expect(() => marbles(() => marbles(() => undefined))).toThrow('marbles() inside marbles()');
  });
});

describe('current values of rxjs', () => {
  it('keep their time windows in milliseconds', () => {
    marbles((t) => {
      const replay$ = new ReplaySubject<string>(Infinity, 2);
      t.hot('a 1ms b').subscribe(replay$);
      t.expect(replay$, '2500us ^').toBe('2500us b');
      const current$ = new BehaviorSubject('x');
      t.at('--y', { y: () => current$.next('y') });
      t.expect(current$).toBe('x-y');
    });
  });
});

type Body = Parameters<typeof marbles>[0];

function thrown(body: Body): Error {
  try {
    marbles(body);
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('the test should have failed');
}

function failure(body: Body): string {
  return thrown(body).message;
}
