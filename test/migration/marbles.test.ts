import { filter, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import { receive } from '../../src/migration/receive.js';
import { marbles, type MarbleTest, type TestDevice } from '../../src/testing/index.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';

/** A device whose arcs take so many frames each. */
function slow(t: MarbleTest, name: string, frames: number, size = 0x1000): TestDevice {
  const device = t.device({ regions: [{ index: 0, size }], remap: false, mailbox: false, name });
  device.driver.faults.arcLatencyUs = frames;
  return device;
}

describe('a migration of several devices', () => {
  it('has a device loaded as soon as it has all of its state, while another still waits; nobody goes on before all are', () => {
    marbles((t) => {
      const [vf0, vf1] = [slow(t, 'vf0', 1), slow(t, 'vf1', 1, 0x4000)];
      const [to0, to1] = [slow(t, 'to0', 2), slow(t, 'to1', 3, 0x4000)];
      const transport = memoryTransport({ latencyMs: 0.001 });
      const source$ = migrate({ transport: transport.connecting, journal: memoryJournal(), devices: [{ source: vf0, destination: 'a' }, { source: vf1, destination: 'b' }] });
      // So little that what vf1 has more goes piece by piece.
      const destination$ = receive({ transport: transport.listening, journal: memoryJournal(), windowBytes: 0x3000, devices: [{ name: 'a', destination: to0 }, { name: 'b', destination: to1 }] });
      const phase = map(({ phase: one }: { readonly phase: string }) => one);
      const phases = { c: 'check', p: 'pre-copy', t: 'transfer', e: 'prepare', m: 'commit', r: 'release', d: 'moved' };
      t.expect(destination$.pipe(phase)).toBe('      c-          --------p--t------ ---e --m-r ---     --<d,|>', phases);
      t.expectDevice(to0).toShow({ state: '           -[<resuming>-----]-----------[s-]-- ----[R-][r    -]' });
      t.expectDevice(to1).toShow({ state: '           -[<resuming>--------]--------- ---[s--]-[R--<],[r>--]' });
      source$.subscribe({ error: (error: unknown) => { throw error; } });
      t.atEnd(() => expect([vf0, vf1, to0, to1].map(({ driver }) => driver.state)).toEqual(['stop', 'stop', 'running', 'running']));
    });
  });

  it('is its diagram: nobody goes on before all are there', () => {
    marbles((t) => {
      const [vf0, vf1] = [slow(t, 'vf0', 2), slow(t, 'vf1', 5)];
      const [to0, to1] = [slow(t, 'to0', 2), slow(t, 'to1', 3)];
      const transport = memoryTransport({ latencyMs: 0.001 });
      const source$ = migrate({ transport: transport.connecting, journal: memoryJournal(), devices: [{ source: vf0, destination: 'a' }, { source: vf1, destination: 'b' }] });
      const destination$ = receive({ transport: transport.listening, journal: memoryJournal(), devices: [{ name: 'a', destination: to0 }, { name: 'b', destination: to1 }] });
      const moved = [filter(({ phase }: { readonly phase: string }) => phase === 'moved'), map(() => 'm')] as const;
      t.expect(destination$.pipe(...moved)).toBe('              40us                                                              <m,|>');
      t.expect(source$.pipe(...moved)).toBe('                   46us                                                                        <m,|>');
      t.expectDevice(vf0).toShow({ state: '-           ----------[p-]   ----[P-]   --[c    -]   --- --- -- -----    --[s-]    ' });
      t.expectDevice(vf1).toShow({ state: '-           ----------[p----]-   [P----   <],[c>----]--- --- -- ----        [s----]' });
      t.expectDevice(to0).toShow({ state: '-[<resuming>-----]-------  -------   -----   --      [s-]--[R -]   [r  -]' });
      t.expectDevice(to1).toShow({ state: '-[<resuming>--------]----  -------   -----   --      [s--]-[R--   <],[r>--]' });
      t.atEnd(() => expect([vf0, vf1, to0, to1].map(({ driver }) => driver.state)).toEqual(['stop', 'stop', 'running', 'running']));
    });
  });
});
