import { isDeepStrictEqual } from 'node:util';
import type { Observable } from 'rxjs';
import type { Abortable } from '../../../abort.js';
import { errorCodes, VfioError } from '../../../errors.js';
import { checkRule, checkRules, demand, describeRules, type Lacks, type Rule, type RuleResult, type TestRunner } from '../rule.js';
import { patienceMs, VirtualBench, type Heard } from '../virtual-bench.js';
import type { StreamNeed, StreamSubject } from './subject.js';

/** A bench with the stream on it, and what goes on beside it. */
class StreamBench extends VirtualBench {
  readonly stream: Observable<unknown>;
  readonly #subject: StreamSubject;

  constructor(subject: StreamSubject) {
    super(subject.device);
    this.#subject = subject;
    if (subject.beside !== undefined) {
      const { beside } = subject;
      this.run(() => {
        this.listen(beside(this.device));
        this.pass(1);
      });
    }
    this.stream = this.run(() => subject.make(this.device));
  }

  /** Twice, with time between: what is told once only is told. */
  provoke(): void {
    for (let n = 0; n < 2; n += 1) {
      this.#subject.provoke?.(this.driver, this.device);
      this.pass(5);
    }
  }

  /** Subscribes, and has the device do something. */
  told(): Heard<unknown> {
    const heard = this.listen(this.stream);
    this.pass(1);
    this.provoke();
    return heard;
  }
}

/** A check that is made in one stretch of virtual time. */
function inTime(check: (bench: StreamBench, subject: StreamSubject) => void): (subject: StreamSubject) => void {
  return (subject) => {
    const bench = new StreamBench(subject);
    bench.run(() => {
      check(bench, subject);
    });
  };
}

function demandVfioError(error: unknown): void {
  demand(VfioError.is(error) && error.code in errorCodes, `an error should be a VfioError with a code, it is ${String(error)}`);
}

/** What every stream over a device promises. */
export const streamRules: readonly Rule<StreamSubject, StreamNeed>[] = [
  {
    id: 'STREAM-1',
    title: 'making it asks the device for nothing, and holds nothing: it is cold',
    check(subject) {
      const bench = new VirtualBench(subject.device);
      bench.run(() => {
        const [asked, held] = [bench.calls.length, bench.held];
        void subject.make(bench.device);
        bench.pass(patienceMs);
        demand(bench.calls.length === asked, `it asked for ${bench.calls.slice(asked).join(', ')} before anybody subscribed`);
        demand(bench.held === held, `it holds ${bench.held} before anybody subscribed, and held ${held} before it was made`);
      });
    },
  },
  {
    id: 'STREAM-2',
    title: 'what the device does is told, on the clock of the device',
    check: inTime((bench) => {
      const { values, errors } = bench.told();
      demand(errors.length === 0, `it should not fail, it failed with ${String(errors[0])}`);
      demand(values.length > 0, 'nothing was told of what the device did: does a Promise or a timer of its own stand between?');
    }),
  },
  {
    id: 'STREAM-3',
    title: 'no Promise stands between the device and the subscriber',
    async check(subject) {
      const bench = new StreamBench(subject);
      const heard = bench.run(() => {
        const told = bench.told();
        bench.pass(patienceMs);
        return told;
      });
      const before = heard.values.length;
      await bench.turn();
      demand(heard.values.length === before, `${heard.values.length - before} values came only when Promises had run`);
    },
  },
  {
    id: 'STREAM-4',
    title: 'after unsubscribing nothing comes, and the device is asked as if nobody had subscribed',
    check(subject) {
      const askedWhen = (subscribed: boolean): readonly string[] => {
        const bench = new StreamBench(subject);
        return bench.run(() => {
          const heard = subscribed ? bench.told() : undefined;
          if (!subscribed) bench.provoke();
          heard?.subscription.unsubscribe();
          const [asked, came] = [bench.calls.length, heard?.values.length];
          bench.provoke();
          bench.pass(patienceMs);
          demand(heard?.values.length === came, `${(heard?.values.length ?? 0) - (came ?? 0)} values came after unsubscribing`);
          return bench.calls.slice(asked);
        });
      };
      const [after, never] = [askedWhen(true).join(', '), askedWhen(false).join(', ')];
      demand(after === never, `after unsubscribing the device was asked for ${after || 'nothing'}; where nobody had subscribed, for ${never || 'nothing'}`);
    },
  },
  {
    id: 'STREAM-5',
    title: 'unsubscribing gives back irqs and timers, from inside a value too',
    check(subject) {
      for (const inside of [false, true]) {
        const bench = new StreamBench(subject);
        bench.run(() => {
          const { held } = bench;
          const ends: { now?: () => void } = {};
          const heard = bench.listen(bench.stream, () => ends.now?.());
          if (inside) ends.now = () => heard.subscription.unsubscribe();
          bench.pass(1);
          bench.provoke();
          heard.subscription.unsubscribe();
          bench.pass(patienceMs);
          demand(bench.held === held, `unsubscribed${inside ? ' from inside a value' : ''}, it holds ${bench.held}; before it was subscribed it was ${held}`);
        });
      }
    },
  },
  {
    id: 'STREAM-6',
    title: 'each subscription is its own: the next one asks the device for all that the first did, and is told as well',
    check: inTime((bench) => {
      const askedBy = (): { readonly asked: ReadonlySet<string>; readonly came: number } => {
        const before = bench.calls.length;
        const { subscription, values, errors } = bench.told();
        subscription.unsubscribe();
        bench.pass(patienceMs);
        demand(errors.length === 0, `a subscription failed with ${String(errors[0])}`);
        return { asked: new Set(bench.calls.slice(before)), came: values.length };
      };
      const [first, second] = [askedBy(), askedBy()];
      const missing = [...first.asked].filter((call) => !second.asked.has(call));
      demand(missing.length === 0, `the second subscription did not ask for ${missing.join(', ')}`);
      demand(first.came === 0 || second.came > 0, 'the second subscription was told nothing');
    }),
  },
  {
    id: 'STREAM-7',
    title: 'a failure is a VfioError with a code, and gives back irqs and timers',
    needs: ['fail'],
    check: inTime((bench, { fail }) => {
      const { held } = bench;
      fail?.(bench.driver, bench.device);
      const { errors } = bench.told();
      bench.pass(patienceMs);
      demand(errors.length === 1, 'it should have failed, as it was made to');
      demandVfioError(errors[0]);
      demand(bench.held === held, `after its failure it holds ${bench.held}; before it was subscribed it was ${held}`);
    }),
  },
  {
    id: 'STREAM-8',
    title: 'it ends when its device is closed, and holds up no close',
    check: inTime((bench) => {
      const heard = bench.told();
      bench.close();
      demand(heard.completed || heard.errors.length > 0, 'it should have ended with its device');
      heard.errors.forEach(demandVfioError);
    }),
  },
  {
    id: 'STREAM-9',
    title: 'over a closed device it ends at once',
    check: inTime((bench) => {
      bench.close();
      const heard = bench.listen(bench.stream);
      bench.pass(patienceMs);
      demand(heard.completed || heard.errors.length > 0, 'it should have ended: its device is closed');
      heard.errors.forEach(demandVfioError);
    }),
  },
  {
    id: 'STREAM-10',
    title: 'it completes by itself where that is promised, and nowhere else',
    check: inTime((bench, { completes = false }) => {
      const heard = bench.told();
      bench.pass(patienceMs);
      demand(heard.completed === completes, completes ? 'it should have completed' : 'it should not complete while its device is open');
    }),
  },
  {
    id: 'STREAM-11',
    title: 'a current value comes inside subscribe(), the same for whoever comes late',
    needs: ['current'],
    check: inTime((bench) => {
      const early = bench.listen(bench.stream);
      demand(early.values.length === 1, `one value should come inside subscribe(), ${early.values.length} came`);
      bench.provoke();
      const late = bench.listen(bench.stream);
      demand(late.values.length === 1, `one value should come inside subscribe() for whoever comes late, ${late.values.length} came`);
      demand(isDeepStrictEqual(late.values.at(-1), early.values.at(-1)), 'whoever comes late should get what was told last');
    }),
  },
];

function lacksOf({ fail, current = false }: StreamSubject): Lacks<StreamNeed> {
  return {
    ...(fail === undefined ? { fail: 'the subject says no way to make it fail' } : {}),
    ...(current ? {} : { current: 'it has no current value' }),
  };
}

function result<T>(subject: StreamSubject<T>, rule: Rule<StreamSubject, StreamNeed>): Promise<RuleResult> {
  return checkRule(rule, subject, lacksOf(subject));
}

/**
 * Checks a stream over a device against every rule, in virtual time, over software devices. Aborted by `signal`, it rejects with VFIO_E_ABORTED behind the rule in hand.
 *
 * @example
 * const results = await checkStream({ make: (device) => temperature(device), provoke: (driver) => driver.raiseMsi() });
 * @see describeStream, checkOperator
 */
export function checkStream<T>(subject: StreamSubject<T>, options: Abortable = {}): Promise<readonly RuleResult[]> {
  return checkRules(streamRules, (rule) => result(subject, rule), options);
}

/** The same as tests of a runner: `describeStream({ describe, it }, 'temperature', subject)`. */
export function describeStream<T>(runner: TestRunner, name: string, subject: StreamSubject<T>): void {
  describeRules(runner, `${name} as a stream`, streamRules, (rule) => result(subject, rule));
}
