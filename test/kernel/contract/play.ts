import { catchError, concatMap, delay, EMPTY, firstValueFrom, lastValueFrom, of, tap, type Observable, type Subscription } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../../src/errors.js';
import type { VfioDevice } from '../../../src/devices/device.js';
import { openDevice } from '../../../src/devices/open.js';
import type { State } from '../../../src/devices/port.js';
import { pathOf, statesOf } from '../../../src/devices/protocol/migration-states.js';
import type { RemapSignal } from '../../../src/devices/remap-batch.js';
import { remapRegions } from '../../../src/operators/remap-regions.js';
import { remapIrq } from '../../../src/streams/remap-irq.js';
import { transition } from '../../../src/streams/transition.js';
import type { Cell } from '../../properties/contract/cells.js';
import type { SampleMdev, TraceLine } from '../../support/mdev.js';
import type { Act, Aside, KernelSchedule } from './schedule.js';

/** What is to be known of one life of a device. */
export interface Life {
  readonly trace: readonly TraceLine[];
  /** What came of each transition, in order. */
  readonly answers: readonly Answer[];
  readonly closedAfterMs: number;
  readonly held: Readonly<Record<string, number>>;
}

export interface Answer {
  readonly to: State;
  readonly code: VfioErrorCode | 'done';
  readonly message: string;
  /** Whether a pipeline was there from the beginning to the end of it. */
  readonly served: boolean;
  readonly closing: boolean;
  /** What the driver had seen when the caller was told. */
  readonly trace: readonly TraceLine[];
}

/** sysfs files of the sample driver for each misbehaviour, one of them taken for a life. */
const switches: Readonly<Record<string, readonly (readonly [file: string, value: number | string])[]>> = {
  none: [],
  'never answer an ack': [['ignore_acks', 1]],
  'signal twice': [['signal_twice', 1]],
  'add one': [['add_one', 1]],
  'signal undeclared': [['signal_undeclared', 1]],
  'signal before the layout': [['signal_before_layout', 1]],
  'take any ack': [['take_any_ack', 1]],
  'drain always': [['drain', 'always']],
  'drain sometimes': [['drain', 'sometimes']],
  'drain at the ack': [['drain', 'at-ack']],
  'roll back silently': [['silent_roll_back', 1]],
  'ignore a disable': [['ignore_disable', 1]],
  stall: [['stall_ms', 20], ['stall_ms', 400]],
  'fail at an arc': [['fail_arc', 'STOP_COPY'], ['fail_arc', 'PRE_COPY'], ['fail_arc', 'RUNNING'], ['fail_arc', 'STOP']],
};

const allOff: readonly (readonly [file: string, value: number | string])[] = [
  ['ignore_acks', 0], ['signal_twice', 0], ['add_one', 0], ['signal_undeclared', 0], ['signal_before_layout', 0], ['take_any_ack', 0],
  ['drain', 'never'], ['silent_roll_back', 0], ['ignore_disable', 0], ['stall_ms', 0], ['fail_arc', 'none'],
];

/** Longer than a stall of 20 ms, shorter than one of 400. */
const impatientMs = 150;
/** A deadline that no cell but one with a stall comes near. */
const patientMs = 60_000;

/** Plays one life of the device. The device is closed after it, whatever happened. */
export async function play(mdev: SampleMdev, cell: Cell, schedule: KernelSchedule): Promise<Life> {
  for (const [file, value] of allOff) mdev.write(file, value);
  mdev.write('trace', 0);
  const device = await firstValueFrom(openDevice(mdev.uuid));
  const life = new Playing(mdev, device, cell, schedule);
  try {
    return await life.play();
  } finally {
    await device.close();
  }
}

class Playing {
  readonly #mdev: SampleMdev;
  readonly #device: VfioDevice;
  readonly #cell: Cell;
  readonly #schedule: KernelSchedule;
  readonly #answers: Answer[] = [];
  #pipeline: Subscription | undefined;
  /** Grows with every pipeline that begins or ends. */
  #pipelines = 0;
  #closing = false;

  constructor(mdev: SampleMdev, device: VfioDevice, cell: Cell, schedule: KernelSchedule) {
    this.#mdev = mdev;
    this.#device = device;
    this.#cell = cell;
    this.#schedule = schedule;
  }

  async play(): Promise<Life> {
    const { acts, faultAt, closedInMidAir } = this.#schedule;
    this.#aside({ what: 'subscribe' });
    for (const [nth, act] of acts.entries()) {
      if (nth === faultAt) this.#misbehave();
      const last = nth === acts.length - 1;
      const playing = this.#act(act);
      if (!last || !closedInMidAir) await playing;
    }
    const began = performance.now();
    this.#closing = true;
    await this.#device.close();
    const closedAfterMs = performance.now() - began;
    return { trace: this.#mdev.trace(), answers: this.#answers, closedAfterMs, held: this.#mdev.held() };
  }

  #misbehave(): void {
    const { fault } = this.#cell;
    const choices = switches[fault.what];
    if (choices === undefined) throw new Error(`the kernel's driver has no switch for: ${fault.what}`);
    const choice = choices[this.#schedule.variant % Math.max(1, choices.length)];
    if (choice !== undefined) this.#mdev.write(...choice);
  }

  async #act(act: Act): Promise<void> {
    if (act.what !== 'go') {
      this.#aside(act);
      return;
    }
    // Of one that is given up at its deadline the write is still under way, and has no state to go from.
    const { state, going } = this.#device.currentState;
    const flags = this.#device.migration?.flags ?? 0;
    const targets = statesOf(flags).filter((target) => target !== 'resuming' && (pathOf(flags, going ?? state, target)?.length ?? 0) > 0);
    const to = targets[act.pick % targets.length];
    if (to === undefined) return;
    const { aside } = act;
    const answer = this.#go(to);
    if (aside !== undefined) setTimeout(() => { if (!this.#closing) this.#aside(aside.act); }, aside.afterMs);
    await answer;
  }

  async #go(to: State): Promise<void> {
    const { what } = this.#cell.fault;
    const pipelines = this.#pipelines;
    const servedFrom = this.#pipeline !== undefined;
    const answered = (code: Answer['code'], message: string): void => {
      const served = servedFrom && pipelines === this.#pipelines;
      this.#answers.push({ to, code, message, served, closing: this.#closing, trace: this.#mdev.trace() });
    };
    await lastValueFrom(
      transition(this.#device, to, { deadlineMs: what === 'stall' ? impatientMs : patientMs }).pipe(
        tap(() => { answered('done', ''); }),
        concatMap(({ data }) => (data === undefined ? EMPTY : data.close())),
        catchError((error: unknown) => {
          if (!VfioError.is(error)) throw error;
          answered(error.code, error.message);
          return EMPTY;
        }),
      ),
      { defaultValue: undefined },
    );
  }

  #aside(act: Aside): void {
    switch (act.what) {
      case 'unsubscribe':
        this.#unsubscribe();
        break;
      case 'subscribe':
        this.#subscribe();
        break;
      default:
        this.#ownChange(act.what, act.region);
    }
  }

  #subscribe(): void {
    if (this.#pipeline !== undefined) return;
    const { slowMs } = this.#schedule;
    const slow = (signal: RemapSignal): Observable<RemapSignal> => (slowMs === 0 ? of(signal) : of(signal).pipe(delay(slowMs)));
    this.#pipelines += 1;
    this.#pipeline = remapIrq(this.#device, this.#cell.row.wishes)
      .pipe(concatMap(slow), remapRegions(this.#device))
      .subscribe({ error: () => { this.#ended(); }, complete: () => { this.#ended(); } });
    if (this.#pipeline.closed) this.#ended();
  }

  /** Over before whoever waits for it is told so. */
  #unsubscribe(): void {
    const pipeline = this.#pipeline;
    this.#ended();
    pipeline?.unsubscribe();
  }

  #ended(): void {
    this.#pipeline = undefined;
    this.#pipelines += 1;
  }

  /** The driver's own; it refuses where nobody has registered the irq. */
  #ownChange(what: 'revoke' | 'restore', region: number): void {
    try {
      this.#mdev.write(what, region);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error;
    }
  }
}
