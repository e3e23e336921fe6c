import { concatMap, map, of, Subject, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { memoryJournal } from '../../src/migration/journal.js';
import type { RoundReport, RoundVerdict } from '../../src/migration/fit-downtime.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import type { Connection } from '../../src/transport/transport.js';
import { transition } from '../../src/streams/transition.js';
import { MessageEncoder, type Message } from '../../src/wire/message.js';
import { nothingUnhandled } from '../support/unhandled.js';
import { virtualClock } from '../support/virtual-clock.js';
import { pair } from './pair.js';
import { watchedWire } from './watched-wire.js';

nothingUnhandled();

function made(count = 1) {
  const clock = virtualClock();
  const p = pair(clock, count, () => { clock.flush(); }, {}, { latencyMs: 1 });
  const end = { code: undefined as string | undefined };
  const watch = { error: (error: unknown) => (end.code = VfioError.is(error) ? error.code : String(error)) };
  const states = (): readonly string[] => p.source.map(({ driver }) => driver.state);
  return { clock, p, end, watch, states };
}

describe('the source', () => {
  it('that was given up before it began opens no connection', () => {
    const { clock, p, end, watch, states } = made();
    const wire = watchedWire(p.transport.connecting, {});
    p.receive().subscribe({ error: () => undefined });
    p.migrate({ transport: wire, abort: of('now') }).subscribe(watch);
    clock.flush();
    expect([end.code, states(), wire.connections.open]).toEqual(['VFIO_E_ABORTED', ['running'], 0]);
    expect(p.sourceJournal.entries).toEqual([]);
  });

  it('is given up where what would abort it fails, and that is the reason', () => {
    const { clock, p, end, watch, states } = made();
    const peer = { code: undefined as string | undefined };
    p.receive().subscribe({ error: (error: unknown) => (peer.code = VfioError.is(error) ? error.code : String(error)) });
    const broken = new Subject<never>();
    p.migrate({ abort: broken }).pipe(tap(({ phase }) => { if (phase === 'transfer') broken.error(new VfioError('VFIO_E_IO', 'a region cannot be asked for', { operation: 'region' })); })).subscribe(watch);
    clock.flush();
    expect([end.code, peer.code, states()]).toEqual(['VFIO_E_IO', 'VFIO_E_PEER', ['running']]);
  });

  it('fails with what its policy throws, and nobody else hears of it', () => {
    const { clock, p, end, watch, states } = made();
    p.receive().subscribe({ error: () => undefined });
    p.migrate({ policy: map((): RoundVerdict => { throw new Error('no verdict'); }) }).subscribe(watch);
    clock.flush();
    expect([end.code, states()]).toEqual(['VFIO_E_ABORTED', ['running']]);
  });

  it('believes in no destination that is prepared before it was sent everything', () => {
    const { clock, p, end, watch, states } = made();
    // A peer of its own kind: it agrees to everything at once.
    const encoder = new MessageEncoder();
    const say = (connection: Connection, message: Message): void => void connection.write(encoder.encode(message)).subscribe({ error: () => undefined });
    p.transport.listening.open(clock).subscribe({
      next: (connection) => {
        say(connection, { type: 'welcome', welcome: { version: 1, migration: 'm', windowBytes: 64, chunkBytes: 64 } });
        clock.scheduler.schedule(() => { say(connection, { type: 'switch-over-ok' }); say(connection, { type: 'prepared' }); }, 50);
      },
      error: (error: unknown) => { throw error; },
    });
    p.migrate().subscribe(watch);
    clock.flush();
    expect([end.code, states()]).toEqual(['VFIO_E_STREAM', ['running']]);
    expect(p.sourceJournal.entries.map(({ record }) => record)).toEqual(['begun']);
  });

  it.each([[{ version: 2 }, 'VFIO_E_INCOMPATIBLE'], [{ migration: 'another' }, 'VFIO_E_INCOMPATIBLE'], [{ chunkBytes: 1 << 26, windowBytes: 1 << 26 }, 'VFIO_E_STREAM']] as const)('reads nothing for a destination that answers with %j', (change, code) => {
    const { clock, p, end, watch, states } = made();
    const answer: Message = { type: 'welcome', welcome: { version: 1, migration: 'm', windowBytes: 64, chunkBytes: 64, ...change } };
    p.transport.listening.open(clock).pipe(concatMap((connection) => connection.write(new MessageEncoder().encode(answer)))).subscribe({ error: (error: unknown) => { throw error; } });
    p.migrate().subscribe(watch);
    clock.flush();
    expect([end.code, states(), p.source.map(({ channels }) => channels.made)]).toEqual([code, ['running'], [0]]);
  });

  it('decides nothing where somebody else has one of its devices go', () => {
    const { clock, p, end, watch } = made(2);
    p.receive().subscribe({ error: () => undefined });
    const meddle = tap(({ phase }: { readonly phase: string }) => {
      const device = p.source[1]?.device;
      if (phase === 'prepare' && device !== undefined) transition(device, 'running').subscribe({ error: (error: unknown) => { throw error; } });
    });
    p.migrate().pipe(meddle).subscribe(watch);
    clock.flush();
    expect(end.code).toBe('VFIO_E_BUSY');
    expect([...p.source, ...p.destination].map(({ driver }) => driver.state)).toEqual(['running', 'running', 'stop', 'stop']);
    expect(p.sourceJournal.entries.map(({ record }) => record)).toEqual(['begun']);
  });

  it('stops its devices also where the last word could not be written', () => {
    const { clock, p, watch, states } = made();
    const phases: string[] = [];
    p.receive().subscribe({ error: () => undefined });
    const journal = memoryJournal();
    p.migrate({ journal: { ...journal, write: (entry) => (entry.record === 'moved' ? map(() => { throw new Error('full'); })(of(0)) : journal.write(entry)) } }).subscribe({ next: ({ phase }) => phases.push(phase), error: watch.error });
    clock.flush();
    expect([phases.at(-1), states()]).toEqual(['moved', ['stop']]);
  });

  it('takes no journal in which a migration stands that is not over', () => {
    const { clock, p, end, watch, states } = made();
    const journal = memoryJournal();
    journal.write({ migration: 'before', devices: ['vf0'], side: 'source', record: 'decided' }).subscribe({ error: (error: unknown) => { throw error; } });
    p.receive().subscribe({ error: () => undefined });
    p.migrate({ journal }).subscribe(watch);
    clock.flush();
    expect([end.code, states(), journal.entries.length]).toEqual(['VFIO_E_JOURNAL', ['running'], 1]);
  });

  it('ends its rounds where somebody waits for a device, unless its policy gives up', () => {
    const verdicts: readonly RoundVerdict[] = ['again', 'give-up'];
    const ends = verdicts.map((verdict) => {
      const { clock, p, end, watch } = made();
      p.receive().subscribe({ error: () => undefined });
      let rounds = 0;
      const policy = map(({ round }: RoundReport): RoundVerdict => {
        rounds = round;
        if (round === 3) p.source[0]?.driver.raise({ index: 4 });
        return round < 4 ? 'again' : verdict;
      });
      p.migrate({ policy }).subscribe(watch);
      clock.flush();
      return [rounds, end.code];
    });
    expect(ends).toEqual([[4, undefined], [4, 'VFIO_E_ABORTED']]);
  });

  it('closes what it has of a peer that takes nothing any more', () => {
    const { clock, p, end, watch } = made();
    const { connecting, listening } = memoryTransport({ capacityBytes: 64 });
    const wire = watchedWire(connecting, {});
    listening.open(clock).subscribe({ error: (error: unknown) => { throw error; } });
    p.migrate({ transport: wire, deadlines: { check: 100 } }).subscribe(watch);
    clock.flush();
    expect([end.code, wire.connections.open]).toEqual(['VFIO_E_DEADLINE', 0]);
  });
});
