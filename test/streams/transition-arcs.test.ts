import { concat, ignoreElements, map, tap, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DataChannel, MigrationTraits, State } from '../../src/devices/port.js';
import { arcEffect, statesOf } from '../../src/devices/protocol/migration-states.js';
import { wayOf } from '../../src/devices/protocol/migration-ways.js';
import { states } from '../../src/devices/uapi/migration-state.js';
import { errnoError, VfioError } from '../../src/errors.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { openedNow, twoRegions, type Opened } from '../support/devices.js';

const kinds: readonly MigrationTraits[] = [{ version: 2, flags: 1 }, { version: 2, flags: 3 }, { version: 2, flags: 5 }, { version: 2, flags: 7 }, { version: 1, flags: 5 }];

/** What became of a call: its values, then its error, if any. */
function outcome<T>(call: Observable<T>): { readonly values: T[]; error: VfioError | undefined } {
  const seen: { readonly values: T[]; error: VfioError | undefined } = { values: [], error: undefined };
  call.subscribe({ next: (value) => seen.values.push(value), error: (error: unknown) => { if (VfioError.is(error)) seen.error = error; else throw error; } });
  return seen;
}

/** A device of its own, and what its port was asked for. */
function device(t: MarbleTest, { version, flags }: MigrationTraits, name: string): Opened & { readonly asked: State[] } {
  const asked: State[] = [];
  const opened = openedNow(t.clock, { ...twoRegions, remap: false, name, migration: flags, migrationVersion: version }, (port) => ({
    setState: (to) => port.setState(to).pipe(tap({ subscribe: () => asked.push(to) })),
  }));
  return { ...opened, asked };
}

describe.each(kinds)('every pair of states of version $version with flags $flags', (traits) => {
  const pairs = statesOf(traits.flags).flatMap((from) => states.map((to) => ({ from, to })));

  it('is gone, with the data_fds of its arcs, or refused before the port is asked', () => {
    marbles((t) => {
      for (const { from, to } of pairs) {
        const at = `${from} to ${to}`;
        const { device: subject, asked, driver } = device(t, traits, at);
        const first: Arc[] = [];
        const begun = from === 'running' ? concat() : transition(subject, from).pipe(tap((arc) => first.push(arc)));
        const arrived = outcome(begun);
        t.at('-g', { g: () => {
          expect([subject.currentState.state, arrived.error], at).toEqual([from, undefined]);
          asked.length = 0;
          going = outcome(transition(subject, to));
        } });
        let going = outcome<Arc>(concat());
        let reading = outcome<unknown>(concat());
        t.at('--r', { r: () => { reading = outcome(use(first[0]?.data)); } });
        t.atEnd(() => {
          const way = wayOf(traits, from, to);
          if (way === undefined) {
            expect([going.error?.code, going.values, asked, driver.state], at).toEqual(['VFIO_E_ARC', [], [], from]);
            return;
          }
          const effects = way.map((state, n) => arcEffect(way[n - 1] ?? from, state));
          expect(going.values.map((arc) => [arc.from, arc.to, arc.data?.direction]), at).toEqual([[from, to, effects.at(-1)?.makes]]);
          expect([driver.state, subject.currentState.state], at).toEqual([to, to]);
          // The session that was there goes on, or is over: ENODEV.
          const over = effects.some(({ ends }) => ends !== undefined);
          if (first[0]?.data !== undefined) expect(reading.error?.code, at).toBe(over ? 'VFIO_E_NO_DEVICE' : undefined);
        });
      }
    });
  });

  it('out of ERROR is refused; a reset is the way', () => {
    marbles((t) => {
      let broken = false;
      const asked: State[] = [];
      const { device: subject } = openedNow(t.clock, { ...twoRegions, remap: false, migration: traits.flags, migrationVersion: traits.version }, (port) => ({
        setState: (to) => port.setState(to).pipe(map((reply) => { asked.push(to); if (broken) throw errnoError('EIO', 'device_state'); return reply; })),
        getState: () => port.getState().pipe(map((state): State => (broken ? 'error' : state))),
        reset: () => port.reset().pipe(tap(() => { broken = false; })),
      }));
      broken = true;
      const failed = outcome(transition(subject, 'stop'));
      t.at('-g', { g: () => {
        expect([failed.error?.errno, subject.currentState.state]).toEqual(['EIO', 'error']);
        asked.length = 0;
        expect(states.map((to) => outcome(transition(subject, to)).error?.code)).toEqual(states.map(() => 'VFIO_E_ARC'));
        expect(asked).toEqual([]);
      } });
      t.expect(concat(t.cold('--|'), subject.reset(), transition(subject, 'stop')).pipe(ignoreElements())).toBe('--|');
      t.atEnd(() => expect(subject.currentState.state).toBe('stop'));
    });
  });
});

function use(data: DataChannel | undefined): Observable<unknown> {
  if (data === undefined) return concat();
  return data.direction === 'save' ? data.read(1) : data.write(Uint8Array.of(1));
}
