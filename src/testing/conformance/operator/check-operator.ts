import { inspect } from 'node:util';
import { Observable, take, type OperatorFunction, type Subscriber } from 'rxjs';
import type { Abortable } from '../../../abort.js';
import { errorCodes, VfioError } from '../../../errors.js';
import { checkRule, checkRules, demand, describeRules, type Lacks, type Rule, type RuleResult, type TestRunner } from '../rule.js';
import { patienceMs, VirtualBench } from '../virtual-bench.js';
import type { OperatorNeed, OperatorSubject } from './subject.js';

/** The source of an operator under test: it knows who listens. */
class Feed {
  subscriptions = 0;
  readonly source: Observable<unknown>;
  readonly #listening = new Set<Subscriber<unknown>>();

  constructor(begin?: (subscriber: Subscriber<unknown>) => void) {
    this.source = new Observable((subscriber) => {
      this.subscriptions += 1;
      this.#listening.add(subscriber);
      subscriber.add(() => this.#listening.delete(subscriber));
      begin?.(subscriber);
    });
  }

  get listening(): number {
    return this.#listening.size;
  }

  tell(what: (subscriber: Subscriber<unknown>) => void): void {
    for (const subscriber of [...this.#listening]) what(subscriber);
  }
}

type Subject = OperatorSubject<unknown, unknown>;

/** How many values a rule feeds. */
const fed = 4;

/** A bench with the operator on it. */
class OperatorBench extends VirtualBench {
  readonly operator: OperatorFunction<unknown, unknown>;
  readonly #subject: Subject;

  constructor(subject: Subject) {
    super(subject.device);
    this.#subject = subject;
    this.operator = this.run(() => subject.make(this.device));
  }

  input(n: number): unknown {
    return this.#subject.input(n, this.device);
  }

  /** The n-th value, then time for its answer. */
  feed(feed: Feed, n: number, value = this.input(n)): unknown {
    feed.tell((subscriber) => subscriber.next(value));
    this.pass(5);
    return value;
  }

  feedAll(feed: Feed): readonly unknown[] {
    return Array.from({ length: fed }, (_, n) => this.feed(feed, n));
  }
}

function inTime(check: (bench: OperatorBench, subject: Subject) => void): (subject: Subject) => void {
  return (subject) => {
    const bench = new OperatorBench(subject);
    bench.run(() => {
      check(bench, subject);
    });
  };
}

const inWords = (answers: readonly number[]): string => (answers.length === 0 ? 'nothing' : answers.join(', '));

/** What every operator promises. */
export const operatorRules: readonly Rule<Subject, OperatorNeed>[] = [
  {
    id: 'OPERATOR-1',
    title: 'piping it subscribes to nothing, and asks the device for nothing',
    check: inTime((bench) => {
      const feed = new Feed();
      const asked = bench.calls.length;
      void feed.source.pipe(bench.operator);
      bench.pass(patienceMs);
      demand(feed.subscriptions === 0, 'it subscribed to its source before anybody subscribed to it');
      demand(bench.calls.length === asked, `it asked for ${bench.calls.slice(asked).join(', ')} before anybody subscribed`);
    }),
  },
  {
    id: 'OPERATOR-2',
    title: 'it subscribes to its source once, and unsubscribing ends all: source, timers, values',
    check: inTime((bench) => {
      const feed = new Feed();
      const { timers } = bench;
      const heard = bench.listen(feed.source.pipe(bench.operator));
      bench.feedAll(feed);
      demand(feed.subscriptions === 1, `it subscribed to its source ${feed.subscriptions} times`);
      heard.subscription.unsubscribe();
      const came = heard.values.length;
      demand(feed.listening === 0, 'its source should be unsubscribed with it');
      bench.feedAll(feed);
      bench.pass(patienceMs);
      demand(heard.values.length === came, 'nothing should come after unsubscribing');
      demand(bench.timers === timers, `${bench.timers - timers} timers are left`);
    }),
  },
  {
    id: 'OPERATOR-3',
    title: 'each value has one answer, on the clock of the device',
    needs: ['answer'],
    check: inTime((bench, { answers }) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      bench.feedAll(feed);
      bench.pass(patienceMs);
      demand(heard.errors.length === 0, `it failed with ${String(heard.errors[0])}`);
      const came = heard.values.map(answers).sort((a, b) => a - b);
      demand(came.join() === Array.from({ length: fed }, (_, n) => n).join(), `of the values 0 to ${fed - 1} it answered ${inWords(came)}`);
    }),
  },
  {
    id: 'OPERATOR-4',
    title: 'it keeps the order',
    check: inTime((bench, { answers }) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      bench.feedAll(feed);
      bench.pass(patienceMs);
      const came = heard.values.map(answers);
      demand(came.every((n, index) => n >= (came[index - 1] ?? 0)), `it answered in the order ${inWords(came)}`);
    }),
  },
  {
    id: 'OPERATOR-5',
    title: 'it answers in the frame of its input',
    needs: ['answer', 'atOnce'],
    check: inTime((bench) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      for (let n = 0; n < fed; n += 1) {
        const { frame } = bench;
        bench.feed(feed, n);
        const at = heard.frames[n];
        demand(at === frame, at === undefined ? `value ${n} was not answered in time` : `value ${n} was answered ${at - frame} us late`);
      }
    }),
  },
  {
    id: 'OPERATOR-6',
    title: 'no Promise stands between a value and its answer',
    async check(subject) {
      const bench = new OperatorBench(subject);
      const heard = bench.run(() => {
        const feed = new Feed();
        const listening = bench.listen(feed.source.pipe(bench.operator));
        bench.feedAll(feed);
        bench.pass(patienceMs);
        return listening;
      });
      const before = heard.values.length;
      await bench.turn();
      demand(heard.values.length === before, `${heard.values.length - before} values came only when Promises had run`);
    },
  },
  {
    id: 'OPERATOR-7',
    title: 'an error of its source passes unchanged',
    check: inTime((bench) => {
      const feed = new Feed();
      const error = new Error('of the source');
      const heard = bench.listen(feed.source.pipe(bench.operator));
      bench.feed(feed, 0);
      feed.tell((subscriber) => subscriber.error(error));
      bench.pass(patienceMs);
      demand(heard.errors.length === 1, 'it should fail with its source');
      demand(heard.errors[0] === error, `it should pass the very error of its source, it failed with ${String(heard.errors[0])}`);
    }),
  },
  {
    id: 'OPERATOR-8',
    title: 'it completes with its source, and not before',
    check: inTime((bench) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      bench.feedAll(feed);
      bench.pass(patienceMs);
      demand(!heard.completed, 'it completed before its source');
      feed.tell((subscriber) => subscriber.complete());
      bench.pass(patienceMs);
      demand(heard.completed, 'it should have completed: its source has');
    }),
  },
  {
    id: 'OPERATOR-9',
    title: 'each subscription has a state of its own',
    check(subject) {
      const pictures = (among: boolean): readonly string[] => {
        const bench = new OperatorBench(subject);
        return bench.run(() => {
          const [mine, other] = [new Feed(), new Feed()];
          if (among) bench.listen(other.source.pipe(bench.operator));
          const heard = bench.listen(mine.source.pipe(bench.operator));
          for (let n = 0; n < fed; n += 1) {
            if (among) other.tell((subscriber) => subscriber.next(bench.input(n + 1)));
            bench.feed(mine, n);
          }
          // Values hold functions, which are never equal: what can be seen of them is compared.
          return heard.values.map((value) => inspect(value, { depth: 4 }));
        });
      };
      const [alone, among] = [pictures(false), pictures(true)];
      const different = alone.findIndex((picture, n) => picture !== among[n]);
      demand(different < 0 && alone.length === among.length, `answer ${different} is another where somebody else is subscribed too: ${among[different] ?? 'none'}, alone it is ${alone[different] ?? 'none'}`);
    },
  },
  {
    id: 'OPERATOR-10',
    title: 'its own failure is a VfioError with a code, and unsubscribes its source',
    needs: ['fail'],
    check: inTime((bench, { fail }) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      const value = bench.input(0);
      fail?.(bench.driver, bench.device);
      bench.feed(feed, 0, value);
      bench.pass(patienceMs);
      const [error] = heard.errors;
      demand(heard.errors.length === 1, 'it should have failed, as it was made to');
      demand(VfioError.is(error) && error.code in errorCodes, `an error should be a VfioError with a code, it is ${String(error)}`);
      demand(feed.listening === 0, 'its source should be unsubscribed');
    }),
  },
  {
    id: 'OPERATOR-11',
    title: 'a source that tells all inside subscribe() is served as any other, and left when nobody wants more',
    check(subject) {
      const counted = (limit: number): { readonly came: number; readonly completed: boolean; readonly told: number } => {
        const bench = new OperatorBench(subject);
        return bench.run(() => {
          let told = 0;
          const feed = new Feed((subscriber) => {
            for (; told < fed && !subscriber.closed; told += 1) subscriber.next(bench.input(told));
            subscriber.complete();
          });
          const heard = bench.listen(feed.source.pipe(bench.operator, take(limit)));
          bench.pass(patienceMs);
          return { came: heard.values.length, completed: heard.completed, told };
        });
      };
      const all = counted(fed + 1);
      demand(all.completed, 'it should complete with a source that ends inside subscribe()');
      demand(subject.drops === true || all.came === fed, `of ${fed} values that came inside subscribe() ${all.came} were answered`);
      demand(subject.drops === true || subject.atOnce === false || counted(1).told === 1, 'a source should be left at once when nobody wants more');
    },
  },
  {
    id: 'OPERATOR-12',
    title: 'what it drops, it gives back',
    needs: ['released'],
    check: inTime((bench, { answers, released }) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      const inputs = bench.feedAll(feed);
      feed.tell((subscriber) => subscriber.complete());
      bench.pass(patienceMs);
      const passedOn = new Set(heard.values.map(answers));
      const lost = [...inputs.keys()].filter((n) => !passedOn.has(n) && released?.(inputs[n]) !== true);
      demand(lost.length === 0, `it neither passed on nor gave back ${inWords(lost)}`);
    }),
  },
  {
    id: 'OPERATOR-13',
    title: 'it adds to what travels, and changes nothing of it',
    check: inTime((bench) => {
      const feed = new Feed();
      const heard = bench.listen(feed.source.pipe(bench.operator));
      const value = bench.input(0);
      const before = inspect(value, { depth: 1 });
      bench.feed(feed, 0, Object.freeze(value));
      demand(heard.errors.length === 0, `with a value that cannot be changed it failed with ${String(heard.errors[0])}`);
      demand(inspect(value, { depth: 1 }) === before, 'the value that came should be as it was');
    }),
  },
];

function lacksOf({ fail, released, drops = false, atOnce = true }: Subject): Lacks<OperatorNeed> {
  return {
    ...(fail === undefined ? { fail: 'the subject says no way to make it fail' } : {}),
    ...(released === undefined ? { released: 'the subject does not say what must be given back' } : {}),
    ...(drops ? { answer: 'it may drop values' } : {}),
    ...(atOnce ? {} : { atOnce: 'it may take its time' }),
  };
}

function result<In, Out>(subject: OperatorSubject<In, Out>, rule: Rule<Subject, OperatorNeed>): Promise<RuleResult> {
  // What goes in comes from `input`, and what comes out goes to `answers`: the types meet again there.
  const any = subject as unknown as Subject;
  return checkRule(rule, any, lacksOf(any));
}

/**
 * Checks an operator against every rule, in virtual time. Aborted by `signal`, it rejects with VFIO_E_ABORTED behind the rule in hand.
 *
 * @example
 * const results = await checkOperator({
 *   make: () => everyTenth(),
 *   input: (n) => ({ n }),
 *   answers: ({ n }) => n,
 *   drops: true,
 * });
 * @see describeOperator, checkStream
 */
export function checkOperator<In, Out>(subject: OperatorSubject<In, Out>, options: Abortable = {}): Promise<readonly RuleResult[]> {
  return checkRules(operatorRules, (rule) => result(subject, rule), options);
}

/** The same as tests of a runner: `describeOperator({ describe, it }, 'everyTenth', subject)`. */
export function describeOperator<In, Out>(runner: TestRunner, name: string, subject: OperatorSubject<In, Out>): void {
  describeRules(runner, `${name} as an operator`, operatorRules, (rule) => result(subject, rule));
}
