import { Subscription, type Observable } from 'rxjs';
import { firstDifference, type Difference } from './difference.js';
import type { FrameScheduler } from './frame-scheduler.js';
import { MarbleError, type CallSite } from './marble-error.js';
import { parseMarbles } from './marble-parser.js';
import { around, drawLines, type Line, type Picture } from './picture.js';
import { named, notifications, type Notified, type Shown } from './shown.js';
import type { SubscriptionSpan } from './sources.js';

/** Asks what was promised, once virtual time has come to rest. Throws a MarbleError. */
export type Check = () => void;

/** Subscribes as the subscription marbles say (without them at frame 0, for ever) and keeps what comes. */
export function recordObservable<T>(scheduler: FrameScheduler, source: Observable<T>, subscription: string | undefined): { readonly came: readonly Notified[]; readonly subscribed: Subscription } {
  const came: Notified[] = [];
  const subscribed = new Subscription();
  const marks = parseMarbles(subscription ?? '^', 'subscription', scheduler.unit);
  const note = (kind: Notified['kind'], value: unknown): void => {
    came.push({ frame: scheduler.frame, kind, value });
  };
  scheduler.atFrame(marks.find(({ kind }) => kind === 'subscribe')?.frame ?? 0, () => {
    subscribed.add(
      source.subscribe({
        next: (value) => note('next', value),
        error: (error: unknown) => note('error', error),
        complete: () => note('complete', undefined),
      }),
    );
  });
  const end = marks.find(({ kind }) => kind === 'unsubscribe');
  if (end !== undefined) scheduler.atFrame(end.frame, () => subscribed.unsubscribe());
  return { came, subscribed };
}

/** The check behind `t.expect(source).toBe(marbles, values, error)`. */
export function observableCheck(
  scheduler: FrameScheduler,
  came: readonly Notified[],
  marbles: string,
  values: Readonly<Record<string, unknown>> | undefined,
  error: unknown,
  at: CallSite,
): Check {
  const marks = parseMarbles(marbles, 'values', scheduler.unit);
  if (marks.some(({ kind }) => kind === 'subscribe')) throw new Error(`expected marbles "${marbles}": "^" belongs into hot and subscription marbles`);
  const expectations = marks.flatMap((mark) => notifications([mark], values, error).map((notified) => ({ mark, notified })));
  return () => {
    const both = named(expectations, came, values ?? {});
    const difference = firstDifference(both.expected, both.actual, scheduler.unit);
    if (difference === undefined) return;
    const { picture, left } = expectedAndActual(scheduler, both.expected, both.actual, difference);
    const meanings = difference.texts.flatMap((text) => {
      const meaning = both.meanings.get(text);
      return meaning === undefined ? [] : [`  ${text} is ${meaning}`];
    });
    throw new MarbleError([`the observable differs${left}`, '', ...picture.lines, marker(picture, difference), ...meanings].join('\n'), at, comparedLines(picture));
  };
}

/** The check behind `t.expectSubscriptions(source).toBe(...)`. */
export function subscriptionCheck(scheduler: FrameScheduler, spans: readonly SubscriptionSpan[], expected: readonly string[], at: CallSite): Check {
  const wanted = expected.map((marbles) => parseMarbles(marbles, 'subscription', scheduler.unit).map(({ frame, name }): Shown => ({ frame, text: name })));
  return () => {
    const came = spans.map(({ from, to }): readonly Shown[] => [{ frame: from, text: '^' }, ...(to === undefined ? [] : [{ frame: to, text: '!' }])]);
    for (let index = 0; index < Math.max(wanted.length, came.length); index += 1) {
      const difference = firstDifference(wanted[index] ?? [], came[index] ?? [], scheduler.unit);
      if (difference === undefined) continue;
      const { picture } = expectedAndActual(scheduler, wanted[index] ?? [], came[index] ?? [], difference);
      const which = `subscription ${index + 1} differs (${wanted.length} expected, ${came.length} came)`;
      throw new MarbleError([which, '', ...picture.lines, marker(picture, difference)].join('\n'), at, comparedLines(picture));
    }
  };
}

function expectedAndActual(scheduler: FrameScheduler, expected: readonly Shown[], actual: readonly Shown[], { frame }: Difference): { readonly picture: Picture; readonly left: string } {
  const both: readonly Line[] = [
    { title: 'expected', events: expected },
    { title: 'actual', events: actual },
  ];
  const { lines, left } = around(both, frame);
  return { picture: drawLines(lines, scheduler.unit), left };
}

/** The line below a picture that marks its first difference. */
export function marker(picture: Picture, { frame, words }: Difference): string {
  return `${' '.repeat(picture.columnOf(frame))}^ ${words}`;
}

function comparedLines({ lines }: Picture): { readonly expected: string; readonly actual: string } {
  const [expected = '', actual = ''] = lines;
  return { expected: expected.replace(/^expected\s*/, ''), actual: actual.replace(/^actual\s*/, '') };
}
