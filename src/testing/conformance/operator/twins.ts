import { catchError, concat, concatMap, delay, filter, map, NEVER, Observable, ReplaySubject, tap, throwError, type OperatorFunction } from 'rxjs';
import type { VfioDevice } from '../../../devices/device.js';
import { VfioError } from '../../../errors.js';
import type { OperatorSubject } from './subject.js';

/** An operator that breaks rules on purpose. */
export interface BrokenOperator {
  readonly name: string;
  /** The rules that fail, and no other; the first is the one that it is made for. */
  readonly breaks: readonly string[];
  /** What the first says then. */
  readonly because: string;
  readonly subject: OperatorSubject<Question, Answer>;
}

interface Question {
  readonly n: number;
  given: boolean;
}

interface Answer {
  readonly n: number;
  readonly size: number;
  readonly count?: number;
}

type Spoil = (sound: OperatorFunction<Question, Answer>, device: VfioDevice) => OperatorFunction<Question, Answer>;

/** Asks for the size of region 0, once for each value; with something done to it. */
function sizes(spoil: Spoil): OperatorSubject<Question, Answer> {
  return {
    make: (device) => spoil(concatMap(({ n }) => device.port.regionInfo(0).pipe(map(({ size }): Answer => ({ n, size })))), device),
    input: (n) => ({ n, given: false }),
    answers: ({ n }) => n,
    fail: (driver) => { driver.faults.failQuery(0, 'EIO'); },
  };
}

const swapped = (n: number): number => [1, 0][n] ?? n;

/** One for each rule of an operator. */
export const brokenOperators: readonly BrokenOperator[] = [
  {
    name: 'subscribes when it is piped', breaks: ['OPERATOR-1', 'OPERATOR-2', 'OPERATOR-10', 'OPERATOR-11'], because: 'before anybody subscribed to it',
    subject: sizes((sound) => (source) => {
      const early = new ReplaySubject<Question>(10);
      source.subscribe(early);
      return early.pipe(sound);
    }),
  },
  {
    name: 'stays with its source', breaks: ['OPERATOR-2', 'OPERATOR-11'], because: 'should be unsubscribed with it',
    subject: sizes((sound) => (source) => new Observable((subscriber) => {
      source.pipe(sound).subscribe({ next: (answer) => subscriber.next(answer), error: (error: unknown) => subscriber.error(error), complete: () => subscriber.complete() });
    })),
  },
  { name: 'swallows a value', breaks: ['OPERATOR-3', 'OPERATOR-5', 'OPERATOR-11'], because: 'it answered 0, 1, 2', subject: sizes((sound) => (source) => source.pipe(sound, filter(({ n }) => n !== 3))) },
  { name: 'answers in another order', breaks: ['OPERATOR-4'], because: '1, 0, 2, 3', subject: sizes((sound) => (source) => source.pipe(sound, map((answer) => ({ ...answer, n: swapped(answer.n) })))) },
  { name: 'takes its time', breaks: ['OPERATOR-5', 'OPERATOR-11'], because: 'us late', subject: sizes((sound, { clock }) => (source) => source.pipe(sound, delay(0.5, clock.scheduler))) },
  {
    name: 'answers again by a Promise', breaks: ['OPERATOR-6'], because: 'only when Promises had run',
    subject: sizes((sound) => (source) => new Observable((subscriber) => {
      const again = (answer: Answer): void => { void Promise.resolve().then(() => { subscriber.next(answer); }); };
      return source.pipe(sound, tap(again)).subscribe(subscriber);
    })),
  },
  {
    name: 'explains the error of its source', breaks: ['OPERATOR-7'], because: 'the very error of its source',
    subject: sizes((sound) => (source) => source.pipe(sound, catchError((error: unknown) => throwError(() => (VfioError.is(error) ? error : new Error('something went wrong', { cause: error })))))),
  },
  { name: 'never completes', breaks: ['OPERATOR-8', 'OPERATOR-11'], because: 'should have completed', subject: sizes((sound) => (source) => concat(source.pipe(sound), NEVER)) },
  {
    name: 'counts for all subscribers together', breaks: ['OPERATOR-9'], because: 'where somebody else is subscribed too',
    subject: sizes((sound) => {
      let count = 0;
      return (source) => source.pipe(sound, map((answer) => ({ ...answer, count: (count += 1) })));
    }),
  },
  {
    name: 'fails with an error of no kind', breaks: ['OPERATOR-10'], because: 'should be a VfioError',
    subject: sizes((sound) => (source) => source.pipe(sound, catchError((error: unknown) => throwError(() => (VfioError.is(error) ? new Error(error.message) : error))))),
  },
  {
    name: 'hears nothing inside subscribe()', breaks: ['OPERATOR-11'], because: 'inside subscribe()',
    subject: sizes((sound) => (source) => new Observable((subscriber) => {
      let ready = false;
      const subscription = source.pipe(filter(() => ready), sound).subscribe(subscriber);
      ready = true;
      return subscription;
    })),
  },
  {
    name: 'drops what somebody waits for', breaks: ['OPERATOR-12'], because: 'neither passed on nor gave back 1, 3',
    subject: { ...sizes((sound) => (source) => source.pipe(sound, filter(({ n }) => n % 2 === 0))), drops: true, released: ({ given }) => given },
  },
  { name: 'writes on what it was given', breaks: ['OPERATOR-13'], because: 'cannot be changed', subject: sizes((sound) => (source) => source.pipe(tap((question) => { question.given = true; }), sound)) },
];
