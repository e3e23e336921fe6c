import { concat, concatMap, defer, EMPTY, ignoreElements, merge, NEVER, Observable, Subject, take, takeUntil, tap, timer, type OperatorFunction } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import type { RoundReport, RoundVerdict } from './fit-downtime.js';
import type { Saver } from './saver.js';

/** What the rounds need of their migration. */
export interface RoundsParts {
  readonly savers: readonly Saver[];
  readonly clock: Clock;
  readonly policy: OperatorFunction<RoundReport, RoundVerdict>;
  readonly pauseMs: number;
  /** Somebody waits: there is no other round. */
  readonly hurried: () => boolean;
  /** Told of each round, before it is judged. */
  readonly told: (report: RoundReport) => void;
}

/**
 * Rounds of PRE_COPY: each moves what all devices have now, then the policy judges what has come meanwhile. Completes when it says
 * that the devices can be stopped.
 */
export function rounds(parts: RoundsParts): Observable<never> {
  return defer(() => {
    const { savers, policy, told } = parts;
    const beganNs = parts.clock.nowNs();
    const reports = new Subject<RoundReport>();
    const verdicts = new Subject<RoundVerdict>();
    const over = new Subject<void>();
    let round = 0;
    const judged = new Observable<never>((subscriber) => {
      const report = reportOf(savers, (round += 1), beganNs, parts.clock.nowNs());
      told(report);
      reports.next(report);
      subscriber.complete();
    });
    const oneRound = defer(() => {
      const before = sentBytes(savers);
      const obeyed = verdicts.pipe(take(1), concatMap((verdict) => obey(verdict === 'again' && parts.hurried() ? 'switch-over' : verdict, over, sentBytes(savers) > before ? 0 : parts.pauseMs, parts.clock)));
      // Listened for first: a policy may answer at once.
      return concat(merge(...savers.map((saver) => saver.round())), merge(obeyed, judged));
    });
    const policed = concat(reports.pipe(policy, tap((verdict) => verdicts.next(verdict)), ignoreElements()), defer(() => { throw givenUp('the policy ended without a verdict'); }));
    return merge(policed, endlessly(oneRound)).pipe(takeUntil(over));
  });
}

function obey(verdict: RoundVerdict, over: Subject<void>, pauseMs: number, clock: Clock): Observable<never> {
  if (verdict === 'give-up') throw givenUp('the policy gave the migration up: what is left to move does not fit the downtime');
  if (verdict === 'switch-over') {
    over.next();
    return NEVER;
  }
  return pauseMs === 0 ? EMPTY : timer(timerMs(pauseMs), clock.scheduler).pipe(ignoreElements());
}

/** Again whenever it completes. A round asks its devices, so that there is a turn of the loop in each. */
function endlessly(work: Observable<never>): Observable<never> {
  return new Observable<never>((subscriber) => {
    const again = (): void => {
      subscriber.add(work.subscribe({ error: (error: unknown) => subscriber.error(error), complete: again }));
    };
    again();
  });
}

function givenUp(why: string): VfioError {
  return new VfioError('VFIO_E_ABORTED', why, { operation: 'migrate' });
}

function sentBytes(savers: readonly Saver[]): bigint {
  return savers.reduce((sum, { bytes }) => sum + bytes, 0n);
}

function reportOf(savers: readonly Saver[], round: number, beganNs: bigint, atNs: bigint): RoundReport {
  const initialBytes = savers.reduce((sum, { initial }) => sum + initial, 0n);
  const left = savers.reduce((sum, { remaining }) => sum + remaining, 0n);
  const sent = sentBytes(savers);
  const tookMs = Number(atNs - beganNs) / 1e6;
  const rate = tookMs > 0 ? (Number(sent) * 1000) / tookMs : 0;
  return { round, atNs, initialBytes, dirtyBytes: left - initialBytes, sentBytes: sent, rate, expectedDowntimeMs: left === 0n ? 0 : (Number(left) * 1000) / rate };
}
