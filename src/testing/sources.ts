import { Observable, Subject, type Subscriber } from 'rxjs';
import { Cell } from '../cell.js';
import type { FrameScheduler } from './frame-scheduler.js';
import { parseMarbles, type Mark } from './marble-parser.js';
import { notifications, type Notified } from './shown.js';

/** When a source was subscribed, in frames. */
export interface SubscriptionSpan {
  readonly from: number;
  /** undefined: it is still subscribed. */
  readonly to: number | undefined;
}

/** A source made from marbles; it knows its subscriptions, see `t.expectSubscriptions`. */
export interface MarbleSource<T> extends Observable<T> {
  readonly subscriptions: readonly SubscriptionSpan[];
}

/** Work of the test itself that is put on the time axis when its body has ended, in the order in which it was written. */
export type Doing = () => void;

function loggedSource<T>(scheduler: FrameScheduler, start: (subscriber: Subscriber<T>) => void): MarbleSource<T> {
  const subscriptions: SubscriptionSpan[] = [];
  const source = new Observable<T>((subscriber) => {
    const from = scheduler.frame;
    const index = subscriptions.push({ from, to: undefined }) - 1;
    subscriber.add(() => {
      subscriptions[index] = { from, to: scheduler.frame };
    });
    start(subscriber);
  });
  return Object.assign(source, { subscriptions });
}

type Values<T> = Readonly<Record<string, T>> | undefined;

export function coldSource<T>(scheduler: FrameScheduler, marbles: string, values: Values<T>, error: unknown): MarbleSource<T> {
  const marks = parseMarbles(marbles, 'values', scheduler.unit);
  if (marks.some(({ kind }) => kind === 'subscribe')) throw new Error(`cold marbles "${marbles}": "^" belongs into hot marbles, a cold source begins when it is subscribed`);
  const all = notifications(marks, values, error);
  return loggedSource<T>(scheduler, (subscriber) => {
    for (const one of all) subscriber.add(scheduler.atFrame(scheduler.frame + one.frame, () => tell(subscriber, one)));
  });
}

/** Emits whether or not somebody listens; `^` is frame 0, what stands left of it has happened before the test. */
export function hotSource<T>(scheduler: FrameScheduler, marbles: string, values: Values<T>, error: unknown): [MarbleSource<T>, Doing] {
  const marks = parseMarbles(marbles, 'values', scheduler.unit);
  const all = sinceZero(marks, notifications(marks, values, error));
  const subject = new Subject<T>();
  const source = loggedSource<T>(scheduler, (subscriber) => subscriber.add(subject.subscribe(subscriber)));
  const play = (): void => {
    for (const one of all) scheduler.atFrame(one.frame, () => tell(subject, one));
  };
  return [source, play];
}

/** A current-value source: who subscribes late gets the current value at once. */
export function cellSource<T extends object | string | number | bigint | boolean>(
  scheduler: FrameScheduler,
  initial: T,
  marbles: string,
  values: Values<T>,
): [Observable<T>, Doing] {
  const marks = parseMarbles(marbles, 'values', scheduler.unit);
  if (marks.some(({ kind }) => kind === 'error')) throw new Error(`cell marbles "${marbles}": a current value does not fail`);
  const cell = new Cell<T>(initial);
  const all = sinceZero(marks, notifications(marks, values, undefined));
  const play = (): void => {
    for (const { frame, kind, value } of all) {
      scheduler.atFrame(frame, () => {
        if (kind === 'complete') cell.complete();
        else cell.set(value as T);
      });
    }
  };
  return [cell.values, play];
}

function sinceZero(marks: readonly Mark[], all: readonly Notified[]): readonly Notified[] {
  const zero = marks.find(({ kind }) => kind === 'subscribe')?.frame ?? 0;
  return all.map((one) => ({ ...one, frame: one.frame - zero })).filter(({ frame }) => frame >= 0);
}

function tell<T>(to: Pick<Subscriber<T>, 'next' | 'error' | 'complete'>, { kind, value }: Notified): void {
  if (kind === 'next') to.next(value as T);
  else if (kind === 'error') to.error(value);
  else to.complete();
}
