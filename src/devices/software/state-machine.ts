import { Subscription } from 'rxjs';
import type { MigrationTraits, State } from '../port.js';
import { arcEffect, isSaving, type TargetState } from '../protocol/migration-states.js';
import { wayOf } from '../protocol/migration-ways.js';
import { intersectAreas } from '../protocol/areas.js';
import type { Area } from '../uapi/region-info.js';
import { returned, type Errno } from './errno.js';
import type { Faults } from './faults.js';
import type { LayoutChange, Layouts } from './layouts.js';
import { PreCopyScript } from './pre-copy-script.js';
import type { RegionMemory } from './region-memory.js';
import type { RemapPages } from './remap-pages.js';
import { bitOf } from './remap-shape.js';
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
  /** Profile saving-layout: nothing is signalled; a change of state that something mapped stands against is refused. */
  readonly refusesConflicts: boolean;
  readonly regions: ReadonlyMap<number, RegionMemory>;
  readonly layouts: Layouts;
  readonly remap: RemapPages | undefined;
  readonly timers: () => Timers;
  readonly faults: Faults;
  readonly trace: Trace;
  /** A layout changed and is visible: said before the signal. */
  readonly announce: (changes: readonly LayoutChange[]) => void;
  /** The user acked, yet has something mapped that this wait was about. */
  readonly stillMapped: (region: number, area: Area) => void;
}

/** By how much the layout comes too late where it should come before the signal, ms. */
export const layoutLagMs = 1;

/** What one wait is about. */
interface Revocation {
  readonly region: number;
  readonly areas: readonly Area[];
}

/** The write that is under way. */
interface Running {
  readonly done: (outcome: Outcome) => void;
  /** What is due for it: the next arc, a layout that comes too late. */
  readonly due: Subscription;
  /** The session that it began: its reply carries the data_fd. */
  made: Session | undefined;
  /** It stalls: what ends it is heard after that. */
  stalls: boolean;
  canceled: boolean;
}

/**
 * device_state from the driver's side. All that the target's layout lacks is revoked, signalled and waited for before the
 * first arc, so that a wait that fails leaves the state as it was; what the reached state's layout has beyond that is
 * offered and signalled, not waited for, after the last. Nothing is held meanwhile: every other call goes on.
 */
export class StateMachine {
  readonly preCopy = new PreCopyScript(() => this);
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

  /** The session that the state has, if any. */
  get session(): Session | undefined {
    return this.#session;
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
    this.#revokeFor(isSaving(to), !isSaving(from) && isSaving(to), running, () => { this.#stall(running, () => { this.#walk(path, running); }); });
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
    const running = this.#running;
    if (running?.stalls === true) running.canceled = true;
    else if (running !== undefined) this.#finish(running, { errno: 'ECANCELED' });
  }

  #endSession(): void {
    this.#session?.end();
    this.#session = undefined;
  }

  #begin(done: (outcome: Outcome) => void): Running {
    const running: Running = { done, due: new Subscription(), made: undefined, stalls: false, canceled: false };
    this.#running = running;
    return running;
  }

  /** Waits for each revocation in turn, then goes on; a wait that fails ends the write, and the layout is back as it was. */
  #revokeFor(saving: boolean, entersSaving: boolean, running: Running, goOn: () => void): void {
    const { remap, refusesConflicts } = this.#around;
    const lost = this.#lostTo(saving);
    if (refusesConflicts) {
      this.#refuseConflicts(lost, running, goOn);
      return;
    }
    if (remap !== undefined && !remap.complete && (entersSaving || lost.length > 0)) {
      this.#finish(running, { errno: remap.refusal });
      return;
    }
    if (lost.length === 0) { goOn(); return; }
    const waits = this.#waitsFor(lost);
    const next = (n: number): void => {
      const wait = waits[n];
      if (wait === undefined || remap === undefined) { goOn(); return; }
      const regions = wait.map(({ region }) => region);
      const narrow = (): void => { this.#around.announce(this.#around.layouts.narrow(regions)); };
      if (this.#around.faults.signalBeforeLayout) running.due.add(this.#around.timers().afterMs(layoutLagMs, narrow));
      else narrow();
      remap.signal(regions, (errno) => {
        if (errno !== undefined) { this.#finish(running, { errno }); return; }
        this.#checkGone(wait);
        next(n + 1);
      });
    };
    next(0);
  }

  /** In one step: what is mapped is checked, and nothing of it can be mapped from then on. */
  #refuseConflicts(lost: readonly Revocation[], running: Running, goOn: () => void): void {
    const { regions, layouts, announce } = this.#around;
    if (lost.some(({ region, areas }) => intersectAreas(regions.get(region)?.mappedAreas ?? [], areas).length > 0)) {
      this.#finish(running, { errno: 'EBUSY' });
      return;
    }
    announce(layouts.narrow(lost.map(({ region }) => region)));
    goOn();
  }

  #lostTo(saving: boolean): readonly Revocation[] {
    const { layouts, regions } = this.#around;
    if (layouts.follows(saving)) return [];
    return [...regions.keys()]
      .map((region) => ({ region, areas: layouts.lostTo(saving, region) }))
      .filter(({ areas }) => areas.length > 0);
  }

  /** One wait for all of a page, or as many as there may be: its regions one after the other, the last wait for all that are left. Pages wait side by side. */
  #waitsFor(lost: readonly Revocation[]): readonly (readonly Revocation[])[] {
    const waits: Revocation[][] = [];
    const nth = new Map<number, number>();
    for (const one of lost) {
      const { page } = bitOf(one.region);
      const n = nth.get(page) ?? 0;
      (waits[n] ??= []).push(one);
      nth.set(page, Math.min(n + 1, this.#around.maxWaits - 1));
    }
    return waits;
  }

  #stall(running: Running, goOn: () => void): void {
    const { faults, timers } = this.#around;
    if (faults.stallMs === 0) { goOn(); return; }
    running.stalls = true;
    timers().afterMs(faults.stallMs, () => {
      running.stalls = false;
      if (this.#running !== running) running.done({ errno: 'ECANCELED' }); // a reset came and went
      else if (running.canceled) this.#finish(running, { errno: 'ECANCELED' });
      else goOn();
    });
  }

  #walk(path: readonly TargetState[], running: Running): void {
    const [to, ...rest] = path;
    if (to === undefined) {
      this.#finish(running, running.made === undefined ? { state: this.#state } : { state: this.#state, session: running.made });
      return;
    }
    const arrive = (): void => {
      const errno = this.#arc(to, running);
      if (errno !== undefined) this.#finish(running, { errno });
      else this.#walk(rest, running);
    };
    const { arcLatencyUs } = this.#around.faults;
    if (arcLatencyUs > 0) running.due.add(this.#around.timers().afterUs(arcLatencyUs, arrive));
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
      this.preCopy.begins(this.#session);
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
    running.due.unsubscribe();
    const changes = this.#around.layouts.settle(isSaving(this.#state));
    if (changes.length > 0) {
      this.#around.announce(changes);
      const silent = outcome.errno !== undefined && this.#around.faults.silentRollBack;
      if (!silent) this.#around.remap?.signal(changes.map(({ region }) => region));
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
