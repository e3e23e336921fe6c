import { filter, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import { receive } from '../../src/migration/receive.js';
import { marbles, type MarbleTest, type TestDevice } from '../../src/testing/index.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';

/** A device whose arcs take so many frames each. */
function slow(t: MarbleTest, name: string, frames: number): TestDevice {
  const device = t.device({ regions: [{ index: 0, size: 0x1000 }], remap: false, mailbox: false, name });
  device.driver.faults.arcLatencyUs = frames;
  return device;
}

describe('a migration of several devices', () => {
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
