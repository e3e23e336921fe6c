import { catchError, concat, concatMap, connect, defer, delay, EMPTY, filter, finalize, from, ignoreElements, interval, map, merge, of, ReplaySubject, sampleTime, share, Subject, take, takeUntil, tap, timeout, type Observable } from 'rxjs';
import { deviceState, portChannel, regions, remapIrq, warningChannel, type RemapPlan, type VfioDevice } from 'vfio-rx';
import { published } from './channels.js';
import { loopGuest } from './guest.js';
import { loopGuestPlan, workerGuestPlan } from './mailbox.js';
import type { JobOptions } from './options.js';
import { pipeline } from './pipeline.js';
import { profiles } from './profiles.js';
import type { RunRecord } from './record.js';
import { migrationRounds } from './rounds.js';
import { toldGuests, toldPlan, toldPortEvent, toldRegions, toldRemap, toldSignal, toldState, toldStep, toldWarning, type Told } from './told.js';
import type { Place } from './where.js';
import { workerGuest } from './worker-guest.js';

export interface Run {
  readonly options: JobOptions;
  readonly place: Place;
  readonly record: RunRecord;
  /** Ends the rounds before their time; the guests then stop as they would have. */
  readonly cut: Observable<unknown>;
}

/** With `--sabotage lose` this one. */
const lostNumber = 100;
/** How long after a cut everything is simply unsubscribed, ms. */
const graceMs = 1500;
const progressMs = 500;

/**
 * The job: the pipeline serves what the driver demands; once the first batch has mapped everything, two guests write, and
 * device_state goes into the saving group and back. When the rounds are over the guests stop, and the job is done when the
 * driver has heard every ack.
 */
export function mainJob(device: VfioDevice, run: Run): Observable<Told> {
  const { options, place, record, cut } = run;
  const done = new Subject<void>();
  const plans = new Subject<RemapPlan>();
  const work = concat(
    guestsAndRounds(device, run),
    settled(device, run),
    defer(() => {
      done.next();
      return EMPTY;
    }),
  );
  const serving = remapIrq(device, profiles[options.profile].options).pipe(
    connect((signals) =>
      merge(
        signals.pipe(map(toldSignal)),
        signals.pipe(
          pipeline(device, (plan) => plans.next(plan), place.holderBudgetMs, options.sabotage),
          connect((remaps) => merge(remaps.pipe(concatMap((remap) => from(toldRemap(remap)))), remaps.pipe(take(1), concatMap(() => work)))),
        ),
      ),
    ),
  );
  return merge(
    deviceState(device).pipe(map(toldState)),
    regions(device).pipe(map(toldRegions)),
    plans.pipe(concatMap((plan) => from(toldPlan(plan)))),
    published(portChannel).pipe(concatMap((event) => from(toldPortEvent(event)))),
    published(warningChannel).pipe(map(toldWarning)),
    serving,
  ).pipe(catchError(noted(record)), takeUntil(merge(done, cut.pipe(delay(graceMs)))));
}

/** Both guests write; once both do the rounds begin, and when those are over both stop. Completes when they have stopped. */
function guestsAndRounds(device: VfioDevice, { options, place, record, cut }: Run): Observable<Told> {
  return defer(() => {
    const { sabotage } = options;
    const { turnMs, holderBudgetMs, witness } = place;
    const stop = new ReplaySubject<void>(1);
    const inWorker = workerGuest(device, workerGuestPlan, stop, { turnMs, firstViewMs: holderBudgetMs, stale: sabotage === 'stale' }).pipe(share());
    const onLoop = loopGuest(device, loopGuestPlan, stop, { turnMs, lose: sabotage === 'lose' ? lostNumber : undefined });
    // A thread starts sooner while nobody else is at work.
    const guests = [inWorker, concat(inWorker.pipe(take(1), ignoreElements()), onLoop)];
    const rounds = migrationRounds(device, options.rounds, options.seconds).pipe(
      // The driver keeps its latest events only.
      tap(() => record.trace.collect(witness.trace)),
      map(toldStep),
      catchError(noted(record)),
    );
    const told = (): Told => toldGuests(record.latest);
    const writing = merge(...guests).pipe(
      tap((progress) => record.progress(progress)),
      catchError(noted(record)),
      connect((progress) => {
        const bothWrite = progress.pipe(filter(() => record.latest.length === guests.length), take(1));
        const story = bothWrite.pipe(concatMap(() => rounds), takeUntil(cut), finalize(() => stop.next()));
        return merge(progress.pipe(sampleTime(progressMs, device.clock.scheduler), map(told)), story);
      }),
    );
    return concat(writing, defer(() => of(told())));
  });
}

/** The signals of the last arc are not waited for by the driver: we wait until it has heard their acks. */
function settled(device: VfioDevice, { options, place: { witness, holderBudgetMs }, record }: Run): Observable<never> {
  const equal = profiles[options.profile].answer !== 'value' ? EMPTY : interval(2, device.clock.scheduler).pipe(
    map(() => witness.sums),
    filter(({ sent, acked }) => sent === acked),
    take(1),
    timeout({ first: holderBudgetMs, scheduler: device.clock.scheduler, with: () => EMPTY }),
  );
  const remember = defer(() => {
    record.sums = witness.sums;
    record.trace.collect(witness.trace);
    return EMPTY;
  });
  return concat(equal.pipe(concatMap(() => EMPTY)), remember);
}

/** A failure ends what failed, and the verdict says so. */
function noted(record: RunRecord): (error: unknown) => Observable<never> {
  return (error) => {
    record.failed(error);
    return EMPTY;
  };
}
