import { NEVER } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VfioError } from '../../src/errors.js';
import { claim } from '../../src/migration/claim.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import { virtualClock } from '../support/virtual-clock.js';
import { contents, pair, type Pair } from './pair.js';

function made() {
  const clock = virtualClock();
  const p = pair(clock, 2, () => { clock.flush(); }, {}, { latencyMs: 1 });
  for (const { driver } of [...p.source, ...p.destination]) driver.faults.arcLatencyUs = 1000;
  return { clock, p };
}

/** Another migration of the same devices, to a side of its own that is never there. */
function another(p: Pair): { code: string | undefined } {
  const seen = { code: undefined as string | undefined };
  p.migrate({ transport: memoryTransport().connecting, journal: memoryJournal() }).subscribe({ error: (error: unknown) => (seen.code = VfioError.is(error) ? error.code : String(error)) });
  return seen;
}

const states = (p: Pair): readonly string[] => p.source.map(({ driver }) => driver.state);

describe('a device', () => {
  it('is in one migration at a time, whatever the other has come to, and one that is refused leaves it as it is', () => {
    // From the first turn to the last, and after it.
    for (let atMs = 0; atMs < 40; atMs += 1) {
      const { clock, p } = made();
      const before = p.source.map(contents);
      const ends: string[] = [];
      p.receive().subscribe({ next: ({ phase }) => (phase === 'moved' ? ends.push(phase) : undefined), error: (error: unknown) => ends.push(String(error)) });
      p.migrate().subscribe({ next: ({ phase }) => (phase === 'moved' ? ends.push(phase) : undefined), error: (error: unknown) => ends.push(String(error)) });
      clock.advanceMs(atMs);
      const second = another(p);
      const now = states(p);
      clock.advanceMs(0);
      expect(second.code).toBe('VFIO_E_BUSY');
      expect(states(p)).toEqual(now);
      clock.flush();
      expect(ends).toEqual(['moved', 'moved']);
      expect([...states(p), ...p.destination.map(({ driver }) => driver.state)]).toEqual(['stop', 'stop', 'running', 'running']);
      expect(p.destination.map(contents)).toEqual(before);
    }
  });

  it('at the destination as well', () => {
    const { clock, p } = made();
    const second = memoryTransport();
    const errors: unknown[] = [];
    p.receive().subscribe({ error: (error: unknown) => errors.push(error) });
    p.migrate({ policy: () => NEVER }).subscribe({ error: () => undefined });
    clock.advanceMs(20);
    expect(p.destination.map(({ driver }) => driver.state)).toEqual(['resuming', 'resuming']);
    const other = pair(clock, 2, () => { clock.advanceMs(1); }, {});
    p.receive({ transport: second.listening, journal: memoryJournal() }).subscribe({ error: (error: unknown) => errors.push(error) });
    other.migrate({ transport: second.connecting }).subscribe({ error: () => undefined });
    clock.advanceMs(20);
    expect(errors).toMatchObject([{ code: 'VFIO_E_BUSY', device: 'to0' }]);
    expect(p.destination.map(({ driver }) => driver.state)).toEqual(['resuming', 'resuming']);
  });

  it('is free again when its migration has ended, also where that failed', () => {
    const { clock, p } = made();
    p.migrate({ deadlines: { check: 5 } }).subscribe({ error: () => undefined });
    clock.flush();
    const [first] = p.source.map(({ device }) => device);
    if (first === undefined) throw new Error('there is none');
    const letGo = claim([first], 'test');
    expect(() => claim([first], 'test')).toThrow('VFIO_E_BUSY');
    letGo();
    expect(() => claim([first, first], 'test')).toThrow('VFIO_E_BUSY');
    claim([first], 'test')();
  });
});
