import { concat, concatMap, EMPTY, filter, merge, of, Subject, take, tap, type Observable, type Subscription } from 'rxjs';
import { expect } from 'vitest';
import { disregard } from '../../src/devices/call.js';
import type { State } from '../../src/devices/port.js';
import { VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX } from '../../src/devices/uapi/constants.js';
import { VfioError } from '../../src/errors.js';
import type { Journal } from '../../src/migration/journal.js';
import type { MigrationEvent, Resolution } from '../../src/migration/plan.js';
import { resolve } from '../../src/migration/resolve.js';
import { transition } from '../../src/streams/transition.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import type { FrameType } from '../../src/wire/frame.js';
import { virtualClock, type VirtualClock } from '../support/virtual-clock.js';
import { arcsGone, illegalFrom, legalFrom } from './arcs.js';
import { failing, mortal, type DiskFault } from './disks.js';
import { owners, states, watchOwners, type Dead } from './owner.js';
import { contents, pair, type Opened, type Pair } from './pair.js';
import type { Happening, Scenario } from './scenario.js';
import { watchedWire } from './watched-wire.js';

type SideName = 'source' | 'destination';
const sides = ['source', 'destination'] as const;

/** What one migration came to, as words to be counted. Throws where a promise was broken. */
export function played(scenario: Scenario): readonly string[] {
  return new Play(scenario).run();
}

class Play {
  readonly #scenario: Scenario;
  readonly #clock: VirtualClock = virtualClock();
  readonly #p: Pair;
  readonly #dead: Dead = { source: false, destination: false };
  readonly #left = new Set<SideName>();
  readonly #last: Record<SideName, MigrationEvent | VfioError | undefined> = { source: undefined, destination: undefined };
  readonly #words: string[] = [];
  readonly #abort = { source: new Subject<void>(), destination: new Subject<void>() };
  #before: readonly Buffer[] = [];

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    const { count, version, flags, latencyMs } = scenario;
    this.#p = pair(this.#clock, count, () => { this.#clock.flush(); }, version === 1 ? { migrationVersion: 1 } : { migration: flags }, { latencyMs });
  }

  run(): readonly string[] {
    const p = this.#p;
    this.#scenario.walks.forEach((picks, n) => this.#walk([...p.source, ...p.destination][n], picks));
    for (const { driver } of [...p.source, ...p.destination]) driver.faults.arcLatencyUs = 1000;
    p.source.forEach(({ driver }, n) => { driver.preCopy.initialBytes = n * this.#scenario.uneven; });
    this.#before = states(p);
    const watching = watchOwners(p, this.#before, this.#dead);
    watching.add(this.#watchRecords());
    watching.add(this.#watchLoading());
    const wires = { source: this.#wire('source'), destination: this.#wire('destination') };
    const { windowBytes } = this.#scenario;
    const running = {
      destination: p.receive({ abort: this.#abort.destination, transport: wires.destination, journal: this.#journal('destination'), ...(windowBytes === undefined ? {} : { windowBytes }) }).subscribe(this.#hear('destination')),
      source: p.migrate({ abort: this.#abort.source, noPeerToPeer: true, transport: wires.source, journal: this.#journal('source'), deadlines: { check: 1000 } }).subscribe(this.#hear('source')),
    };
    for (const one of this.#scenario.happenings) this.#schedule(one, running);
    this.#clock.flush();
    this.#judgeEnd();
    this.#resolve();
    // Who still waits for a source that never came is told to go.
    running.destination.unsubscribe();
    this.#clock.flush();
    this.#judgeRest(wires);
    watching.unsubscribe();
    if (!this.#dead.source && !this.#dead.destination) this.#moveAgain();
    this.#close();
    return this.#words;
  }

  // ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Legal ways, at random; in the end the device runs. */
  #walk(one: Opened | undefined, picks: readonly number[]): void {
    if (one?.device.migration === undefined) return;
    const traits = one.device.migration;
    const go = (pick: number): void => {
      const legal = legalFrom(traits, one.device.currentState.state);
      const to = legal[pick % legal.length];
      if (to !== undefined) transition(one.device, to).subscribe({ next: ({ data }) => { disregard(data?.close()); }, error: (error: unknown) => { throw error; } });
      this.#clock.flush();
    };
    picks.forEach(go);
    disregard(transition(one.device, 'running'));
    this.#clock.flush();
    expect(one.device.currentState.state).toBe('running');
    this.#words.push('walked');
  }

  #schedule(one: Happening, running: Record<SideName, Subscription>): void {
    const { source, destination } = this.#p;
    const count = this.#scenario.count;
    if (one.kind === 'source arc') source[one.device % count]?.driver.faults.failArc(one.arc, 'EIO', one.times);
    if (one.kind === 'destination arc') destination[one.device % count]?.driver.faults.failArc(one.arc, 'EIO');
    if ('atMs' in one) this.#clock.scheduler.schedule(() => { this.#happens(one, running); }, one.atMs);
  }

  #happens(one: Happening & { readonly atMs: number }, running: Record<SideName, Subscription>): void {
    const opened = 'device' in one && 'side' in one ? this.#p[one.side][one.device % this.#scenario.count] : undefined;
    switch (one.kind) {
      case 'cut': this.#p.transport.cut(); break;
      case 'source dies': case 'destination dies': this.#die(one.kind === 'source dies' ? 'source' : 'destination'); break;
      case 'abort': this.#abort.source.next(); break;
      case 'give-up': this.#abort.destination.next(); break;
      case 'unsubscribe': case 'leave': {
        const side = one.kind === 'leave' ? 'destination' : 'source';
        if (this.#isOver(side)) break;
        this.#left.add(side);
        running[side].unsubscribe();
        break;
      }
      case 'stalls': if (opened !== undefined) opened.driver.faults.stallMs = 30_000; break;
      case 'removed': opened?.driver.remove(); break;
      case 'ERR': case 'REQ': opened?.driver.raise({ index: one.kind === 'ERR' ? VFIO_PCI_ERR_IRQ_INDEX : VFIO_PCI_REQ_IRQ_INDEX }); break;
      case 'illegal request': this.#illegal(opened, one.pick); break;
      case 'reset': case 'other request': this.#meddle(one.side, opened, one.kind, one.pick); break;
      case 'second migration': this.#second(one.side);
    }
  }

  #die(side: SideName): void {
    this.#dead[side] = true;
    this.#p.transport.cut();
  }

  #illegal(one: Opened | undefined, pick: number): void {
    const { device } = one ?? {};
    if (device?.migration === undefined || one?.driver.trace.length === 0) return;
    const busy = device.currentState.going !== undefined;
    const illegal = busy ? legalFrom(device.migration, device.currentState.state) : illegalFrom(device.migration, device.currentState.state);
    const to = illegal[pick % illegal.length];
    if (to === undefined) return;
    let code = 'nothing';
    transition(device, to).subscribe({ error: (error: unknown) => (code = VfioError.is(error) ? error.code : String(error)) });
    expect(code, `${device.currentState.state} to ${to}`).toBe(busy ? 'VFIO_E_BUSY' : 'VFIO_E_ARC');
    this.#words.push(`refused ${code}`);
  }

  /** Somebody else has the device go elsewhere: before the decision only, after it that would be to run it by hand. */
  #meddle(side: SideName, one: Opened | undefined, kind: 'reset' | 'other request', pick: number): void {
    const { device } = one ?? {};
    if (device?.migration === undefined || device.currentState.going !== undefined || this.#dead[side]) return;
    if (this.#isOver('source') || this.#phase('source') === 'commit' || this.#p.sourceJournal.entries.some(({ record }) => record !== 'begun')) return;
    // A destination that was loaded by whatever way must not be run by hand either.
    if (side === 'destination' && (kind !== 'reset' || device.currentState.state !== 'resuming')) return;
    const legal = legalFrom(device.migration, device.currentState.state);
    const request: Observable<unknown> = kind === 'reset' ? device.reset() : transition(device, legal[pick % legal.length] ?? 'running').pipe(concatMap(({ data }) => data?.close() ?? of(undefined)));
    request.subscribe({ error: () => undefined });
    this.#words.push(`${kind} at the ${side}`);
  }

  /** The same devices in another migration: that is refused, and changes nothing. */
  #second(side: SideName): void {
    if (this.#dead[side] || this.#phase('source') === undefined || (side === 'destination' && this.#phase('destination') === undefined)) return;
    const { connecting, listening } = memoryTransport();
    const one = side === 'source' ? this.#p.migrate({ transport: connecting, journal: memoryJournal(), noPeerToPeer: true }) : this.#p.receive({ transport: listening, journal: memoryJournal() });
    const over = this.#isOver(side) || this.#left.has(side) || this.#phase(side) === 'roll-back';
    let code: string | undefined;
    const second = one.subscribe({ error: (error: unknown) => (code = VfioError.is(error) ? error.code : String(error)) });
    this.#clock.scheduler.schedule(() => { second.unsubscribe(); }, 0.5);
    if (side === 'source' && !over) {
      expect(code).toBe('VFIO_E_BUSY');
      this.#words.push('second migration refused');
    }
  }

  #phase(side: SideName): string | undefined {
    const last = this.#last[side];
    return last === undefined || VfioError.is(last) ? undefined : last.phase;
  }

  /** It has had its last word. */
  #isOver(side: SideName): boolean {
    const last = this.#last[side];
    return VfioError.is(last) || this.#phase(side) === 'moved' || this.#phase(side) === 'in-doubt';
  }

  #hear(side: SideName): { readonly next: (event: MigrationEvent) => void; readonly error: (error: unknown) => void } {
    return {
      next: (event) => (this.#last[side] = event),
      error: (error) => {
        expect(VfioError.is(error), String(error)).toBe(true);
        this.#last[side] = error as VfioError;
      },
    };
  }

  #journal(side: SideName): Journal {
    const journal = side === 'source' ? this.#p.sourceJournal : this.#p.destinationJournal;
    const faults = this.#scenario.happenings.filter((one): one is Happening & DiskFault => one.kind === `${side} disk`);
    return mortal(failing(journal, faults, () => this.#words.push(`${side} disk failed`)), () => this.#dead[side]);
  }

  #wire(side: SideName): ReturnType<typeof watchedWire> {
    const { happenings } = this.#scenario;
    const at = (type: FrameType, after: boolean): void => {
      for (const one of happenings) {
        if (!('message' in one) || one.kind === 'bit flips' || one.message !== type || one.after !== after) continue;
        if (after) this.#clock.scheduler.schedule(() => { this.#strike(one.kind); }, 0);
        else this.#strike(one.kind);
      }
    };
    return watchedWire(side === 'source' ? this.#p.transport.connecting : this.#p.transport.listening, {
      before: (type, n, bytes) => {
        if (!this.#dead[side]) this.#judgeMessage(side, type);
        at(type, false);
        const flip = happenings.find((one) => one.kind === 'bit flips' && one.side === side && one.message === n);
        if (flip?.kind !== 'bit flips') return undefined;
        this.#words.push('a bit flipped');
        const spoiled = Buffer.from(bytes);
        const bit = flip.bit % (spoiled.length * 8);
        spoiled.writeUInt8(spoiled.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        return spoiled;
      },
      after: (type) => at(type, true),
    });
  }

  #strike(kind: 'cut at' | 'source dies at' | 'destination dies at'): void {
    if (kind === 'cut at') this.#p.transport.cut();
    else this.#die(kind === 'source dies at' ? 'source' : 'destination');
  }

  // ── the rules of the commit ────────────────────────────────────────────────────────────────────────────────────────

  /** What may be said, by what stands on the disk. */
  #judgeMessage(side: SideName, type: FrameType): void {
    const record = (side === 'source' ? this.#p.sourceJournal : this.#p.destinationJournal).entries.at(-1)?.record;
    const allowed: Partial<Record<FrameType, readonly unknown[]>> = { commit: ['decided', 'moved'], prepared: ['prepared'], confirmed: ['running'] };
    const may = allowed[type];
    if (may !== undefined) expect(may, `${type} with ${String(record)} on the disk`).toContain(record);
    if (type === 'never-ran') expect(record).not.toBe('running');
    if (type === 'confirmed') expect(this.#p.destination.map(({ driver }) => driver.state)).toEqual(this.#p.destination.map(() => 'running'));
    if (type === 'commit') expect(this.#p.source.some(({ driver }) => driver.state === 'running')).toBe(false);
  }

  /** Who may run, by what stands on the disk. */
  #watchRecords(): Subscription {
    return watchOwners(this.#p, this.#before, this.#dead, (who) => {
      if (who.includes('source')) expect(['decided', 'moved'], 'the source runs').not.toContain(this.#p.sourceJournal.entries.at(-1)?.record);
      if (who.includes('destination')) expect(this.#p.destinationJournal.entries.at(-1)?.record, 'the destination runs').toBe('running');
    });
  }

  /** One device of the destination has loaded what it got while another waits for bytes. */
  #watchLoading(): Subscription {
    const at = (state: State): boolean => this.#p.destination.some(({ device: { currentState } }) => currentState.state === state && currentState.going === undefined);
    const early = merge(...this.#p.destination.map(({ device }) => device.state)).pipe(filter(() => this.#phase('destination') === 'transfer' && at('stop') && at('resuming')), take(1));
    return early.subscribe({ next: () => this.#words.push('loaded while another waited'), error: () => undefined });
  }

  /** Everybody has had a last word, and without doubt one side runs. */
  #judgeEnd(): void {
    for (const side of sides) {
      // A destination to which no source came waits as long as it takes.
      if (this.#dead[side] || this.#left.has(side) || (side === 'destination' && this.#p.destinationJournal.entries.length === 0)) continue;
      expect(this.#isOver(side), `the ${side}'s last word: ${String(this.#phase(side))}`).toBe(true);
    }
    const doubt = sides.some((side) => this.#inDoubt(side));
    const died = this.#dead.source || this.#dead.destination;
    const who = owners(this.#p, this.#before, this.#dead);
    if (doubt) this.#words.push('in doubt');
    if (died) this.#words.push('died');
    if (this.#p.sourceJournal.entries.at(-1)?.record === 'taken-back') this.#words.push('taken back');
    if (doubt || died) return;
    const { source } = this.#last;
    if (VfioError.is(source) && source.message.includes('did not come back')) {
      this.#words.push('a device did not come back');
      return;
    }
    if (this.#p.source.some(({ driver }) => driver.opens === 0)) this.#words.push('given back to the kernel');
    for (const side of sides) if (VfioError.is(this.#last[side]) && this.#last[side].code === 'VFIO_E_DEVICE_ERROR') this.#words.push(`an error at the ${side}`);
    if (VfioError.is(source) && source.message.includes('was reset')) this.#words.push('a device was reset');
    if (this.#left.size === 0) expect(who, 'without doubt one side runs').toHaveLength(1);
    this.#words.push(who[0] === 'source' ? 'rolled back' : who[0] === 'destination' ? 'moved' : 'nobody told');
  }

  #inDoubt(side: SideName): boolean {
    return !this.#dead[side] && this.#phase(side) === 'in-doubt';
  }

  // ── the end of a doubt ─────────────────────────────────────────────────────────────────────────────────────────────

  /** Both come together, as often as it takes; a disk that was full has room again. */
  #resolve(): void {
    if (!sides.some((side) => this.#dead[side] || this.#inDoubt(side))) return;
    const journals = { source: this.#p.sourceJournal, destination: this.#p.destinationJournal };
    // Where one side never wrote a word there is nobody to ask.
    if (sides.some((side) => journals[side].entries.length === 0)) return;
    let said: string[] = [];
    /** Who knows how it ended answers the other side from its journal. */
    const known = new Set<SideName>();
    for (let attempt = 0; attempt < 4 && (said.length < 2 || said.some((one) => one !== 'moved' && one !== 'not-moved')); attempt += 1) {
      said = [];
      for (const side of ['destination', 'source'] as const) {
        const asked = known.has(side) ? this.#askAs(side, journals[side]) : this.#ask(side, journals[side]);
        concat(asked.pipe(tap((one) => { said.push(one); known.add(side); })), of(undefined)).subscribe({ error: (error: unknown) => said.push(String(error)) });
      }
      this.#clock.flush();
    }
    const answers = [...new Set(said)].sort();
    const about = JSON.stringify([answers, ...sides.map((side) => journals[side].entries.map(({ record }) => record))]);
    // Some devices run, and another is gone for good: no attempt ends that, and nobody else may have them.
    const gone = this.#scenario.happenings.some((one) => one.kind === 'removed' && one.side === 'destination');
    if (gone && this.#p.destination.some(({ driver }) => driver.state !== 'stop') && answers.every((answer) => answer.includes('VFIO_E_IN_DOUBT'))) {
      this.#words.push('in doubt for good');
      return;
    }
    expect(answers, about).toHaveLength(1);
    expect(['moved', 'not-moved'], about).toContain(answers[0]);
    this.#words.push(`resolved: ${answers[0] ?? ''}`);
    const owner = answers[0] === 'moved' ? 'destination' : 'source';
    const lost = this.#p[owner].some(({ driver }) => driver.state !== 'running');
    const who = owners(this.#p, this.#before, this.#dead);
    if (lost) expect(who, about).not.toContain(owner === 'source' ? 'destination' : 'source');
    else expect(who, about).toEqual(this.#dead[owner] ? [] : [owner]);
    if (!this.#dead[owner] && lost) this.#words.push('a device did not come back');
  }

  #ask(side: SideName, journal: Journal): Observable<Resolution> {
    const event = this.#last[side];
    const transport = side === 'source' ? this.#p.transport.connecting : this.#p.transport.listening;
    if (this.#inDoubt(side) && event !== undefined && 'resolve' in event) return event.resolve(transport);
    return this.#askAs(side, journal);
  }

  #askAs(side: SideName, journal: Journal): Observable<Resolution> {
    const transport = side === 'source' ? this.#p.transport.connecting : this.#p.transport.listening;
    return journal.read().pipe(concatMap((entry) => (entry === undefined ? EMPTY : resolve({ journal, transport, clock: this.#clock, deadlineMs: 2000 }))));
  }

  // ── what is left ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Nothing of a migration that is over is held any more, and the states were gone along the table; all bytes are where they belong. */
  #judgeRest(wires: Record<SideName, { readonly connections: { readonly open: number } }>): void {
    for (const side of sides) {
      for (const { device, driver } of this.#p[side]) {
        if (device.migration === undefined) throw new Error('it cannot migrate');
        this.#words.push(...new Set(arcsGone(driver.trace, device.migration)));
      }
      if (this.#dead[side] || this.#inDoubt(side)) continue;
      expect(this.#p[side].map(({ channels }) => channels.open), `data_fds of the ${side}`).toEqual(this.#p[side].map(() => 0));
      expect(this.#p[side].map(({ driver }) => driver.irqs), `irqs of the ${side}`).toEqual(this.#p[side].map(() => 0));
      expect(wires[side].connections.open, `connections of the ${side}`).toBe(0);
    }
    const who = owners(this.#p, this.#before, this.#dead);
    if (who[0] === 'destination') expect(this.#p.destination.map(contents)).toEqual(this.#before.map((bytes) => bytes.toString('hex')));
    if (who[0] === 'source') expect(this.#p.source.map(contents)).toEqual(this.#before.map((bytes) => bytes.toString('hex')));
  }

  /** Where the source runs again, a migration without faults moves what it has. */
  #moveAgain(): void {
    const p = this.#p;
    // A driver that stalled past every deadline left its device where it was.
    const usable = p.source.every(({ driver }) => driver.opens > 0) && p.destination.every(({ driver }) => driver.state === 'running' || driver.state === 'stop') && [...p.source, ...p.destination].every(({ device, driver }) => !this.#scenario.happenings.some(({ kind }) => kind === 'removed') && device.currentState.going === undefined && driver.state !== 'error');
    if (!usable || !p.source.every(({ driver }) => driver.state === 'running') || sides.some((side) => this.#inDoubt(side))) return;
    for (const { driver } of [...p.source, ...p.destination]) {
      for (const arc of ['pre-copy', 'pre-copy-p2p', 'running-p2p', 'stop-copy', 'running', 'resuming', 'stop'] as const) driver.faults.failArc(arc, 'EIO', 0);
      driver.faults.stallMs = 0;
    }
    const { connecting, listening } = memoryTransport();
    const ends: unknown[] = [];
    const hear = { next: ({ phase }: MigrationEvent) => (phase === 'moved' ? ends.push(phase) : undefined), error: (error: unknown) => ends.push(error) };
    p.receive({ transport: listening, journal: memoryJournal() }).subscribe(hear);
    p.migrate({ transport: connecting, journal: memoryJournal(), noPeerToPeer: true }).subscribe(hear);
    this.#clock.flush();
    expect(ends).toEqual(['moved', 'moved']);
    this.#words.push('moved the second time');
  }

  #close(): void {
    for (const { device } of [...this.#p.source, ...this.#p.destination]) void device.close();
    this.#clock.flush();
    for (const { driver } of [...this.#p.source, ...this.#p.destination]) expect([driver.opens, driver.irqs, driver.vmas], 'of a device that is closed').toEqual([0, 0, 0]);
  }
}
