import type { Subscription } from 'rxjs';
import type { MigrationTraits, State } from '../port.js';
import { arcEffect, isSaving, type TargetState } from '../protocol/migration-states.js';
import { wayOf } from '../protocol/migration-ways.js';
import type { Area } from '../uapi/region-info.js';
import { returned, type Errno } from './errno.js';
import type { Faults } from './faults.js';
import type { LayoutChange, Layouts } from './layouts.js';
import type { RegionMemory } from './region-memory.js';
import type { RemapIrq } from './remap-irq.js';
import { ResumeSession, SaveSession, type Session } from './state-stream.js';
import type { Timers } from './timers.js';
import type { Trace } from './trace.js';

/** How a write of device_state, or a reset, returns. */
export type Outcome =
  { readonly errno: Errno } | { readonly errno?: never; readonly state: State; readonly session?: Session };

export interface StateSurroundings {
  /** Flags 0 where the device cannot migrate. */
  readonly migration: MigrationTraits;
  readonly maxWaits: number;
  readonly regions: ReadonlyMap<number, RegionMemory>;
  readonly layouts: Layouts;
  readonly remap: RemapIrq | undefined;
  readonly timers: () => Timers;
  readonly faults: Faults;
  readonly trace: Trace;
  /** A layout changed and is visible: said before the signal. */
  readonly announce: (changes: readonly LayoutChange[]) => void;
  /** The user acked, yet has something mapped that this wait was about. */
  readonly stillMapped: (region: number, area: Area) => void;
}

/** What one wait is about. */
interface Revocation {
  readonly region: number;
  readonly areas: readonly Area[];
}

/** The write that is under way. */
interface Running {
  readonly done: (outcome: Outcome) => void;
  arc: Subscription | undefined;
  /** The session that it began: its reply carries the data_fd. */
  made: Session | undefined;
}

/**
 * device_state from the driver's side. All that the target's layout lacks is revoked, signalled and waited for before the
 * first arc, so that a wait that fails leaves the state as it was; what the reached state's layout has beyond that is
 * offered and signalled, not waited for, after the last. Nothing is held meanwhile: every other call goes on.
 */
export class StateMachine {
  readonly #around: StateSurroundings;
  #state: State = 'running';
  #running: Running | undefined;
  #session: Session | undefined;

  constructor(around: StateSurroundings) {
    this.#around = around;
  }

  /** Lock-free: while a write is blocked, the old state. */
  get state(): State {
    return this.#state;
  }

  get busy(): boolean {
    return this.#running !== undefined;
  }

  set(to: State, done: (outcome: Outcome) => void): void {
    const from = this.#state;
    const traced = (outcome: Outcome): void => {
      this.#around.trace.add('state', { from, to, ret: returned(outcome.errno) });
      done(outcome);
    };
    if (this.#running !== undefined) { traced({ errno: 'EBUSY' }); return; }
    const path = wayOf(this.#around.migration, from, to);
    if (path === undefined) { traced({ errno: 'EINVAL' }); return; }
    if (path.length === 0) { traced({ state: to }); return; }
    const running = this.#begin(traced);
    this.#revokeFor(isSaving(to), !isSaving(from) && isSaving(to), running, () => { this.#walk(path, running); });
  }

  /** VFIO_DEVICE_RESET: fails a wait that is going on, then moves to RUNNING. The regions' contents stay. */
  reset(done: (outcome: Outcome) => void): void {
    this.cancel();
    const running = this.#begin(done);
    this.#revokeFor(false, false, running, () => {
      this.#endSession();
      this.#state = 'running';
      this.#finish(running, { state: 'running' });
    });
  }

  /** The user is gone: its session ends, and the next one finds the device running. */
  closed(): void {
    this.#endSession();
    this.#state = 'running';
    this.#around.announce(this.#around.layouts.settle(false));
  }

  /** The device is gone: what is blocked returns. */
  cancel(): void {
    this.#around.remap?.fail('ECANCELED');
    if (this.#running !== undefined) this.#finish(this.#running, { errno: 'ECANCELED' });
  }

  #endSession(): void {
    this.#session?.end();
    this.#session = undefined;
  }

  #begin(done: (outcome: Outcome) => void): Running {
    const running: Running = { done, arc: undefined, made: undefined };
    this.#running = running;
    return running;
  }

  /** Waits for each revocation in turn, then goes on; a wait that fails ends the write, and the layout is back as it was. */
  #revokeFor(saving: boolean, entersSaving: boolean, running: Running, goOn: () => void): void {
    const { remap } = this.#around;
    const waits = this.#waitsFor(saving);
    if (remap !== undefined && !remap.complete && (entersSaving || waits.length > 0)) {
      this.#finish(running, { errno: 'EPERM' });
      return;
    }
    const next = (n: number): void => {
      const wait = waits[n];
      if (wait === undefined || remap === undefined) { goOn(); return; }
      this.#around.announce(this.#around.layouts.narrow(wait.map(({ region }) => region)));
      remap.signal((errno) => {
        if (errno !== undefined) { this.#finish(running, { errno }); return; }
        this.#checkGone(wait);
        next(n + 1);
      });
    };
    next(0);
  }

  /** One wait for all, or as many as there may be: the regions one after the other, the last wait for all that are left. */
  #waitsFor(saving: boolean): readonly (readonly Revocation[])[] {
    const { layouts, maxWaits, regions } = this.#around;
    const lost = [...regions.keys()]
      .map((region) => ({ region, areas: layouts.lostTo(saving, region) }))
      .filter(({ areas }) => areas.length > 0);
    if (lost.length === 0) return [];
    const alone = Math.min(maxWaits, lost.length) - 1;
    return [...lost.slice(0, alone).map((one) => [one]), lost.slice(alone)];
  }

  #walk(path: readonly TargetState[], running: Running): void {
    const [to, ...rest] = path;
    if (to === undefined) {
      this.#finish(running, { state: this.#state, ...(running.made === undefined ? {} : { session: running.made }) });
      return;
    }
    const arrive = (): void => {
      running.arc = undefined;
      const errno = this.#arc(to, running);
      if (errno !== undefined) this.#finish(running, { errno });
      else this.#walk(rest, running);
    };
    const { arcLatencyUs } = this.#around.faults;
    if (arcLatencyUs > 0) running.arc = this.#around.timers().afterUs(arcLatencyUs, arrive);
    else arrive();
  }

  #arc(to: TargetState, running: Running): Errno | undefined {
    const { faults, regions } = this.#around;
    const failure = faults.take(`arc ${to}`);
    if (failure !== undefined) return failure;
    const { ends, makes } = arcEffect(this.#state, to);
    if (ends === 'resume' && this.#session instanceof ResumeSession) {
      const errno = this.#session.load();
      if (errno !== undefined) return errno;
    }
    if (ends !== undefined) this.#endSession();
    if (makes !== undefined) {
      this.#session = makes === 'save' ? new SaveSession(regions) : new ResumeSession(regions);
      running.made = this.#session;
    }
    if (to === 'stop-copy' && this.#session instanceof SaveSession) this.#session.stop();
    this.#state = to;
    return undefined;
  }

  /** Whatever happened: the layout is that of the state the device is in, and a change of it is signalled. */
  #finish(running: Running, outcome: Outcome): void {
    if (this.#running !== running) return;
    this.#running = undefined;
    running.arc?.unsubscribe();
    const changes = this.#around.layouts.settle(isSaving(this.#state));
    if (changes.length > 0) {
      this.#around.announce(changes);
      this.#around.remap?.signal();
    }
    running.done(outcome);
  }

  #checkGone(wait: readonly Revocation[]): void {
    for (const { region, areas } of wait) {
      for (const area of this.#around.regions.get(region)?.mappedOutside(this.#around.layouts.offered(region), areas) ?? []) {
        this.#around.stillMapped(region, area);
      }
    }
  }
}
