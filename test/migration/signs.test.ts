import { map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX } from '../../src/devices/uapi/constants.js';
import type { RoundReport, RoundVerdict } from '../../src/migration/fit-downtime.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { MigrationPlan } from '../../src/migration/plan.js';
import { receive } from '../../src/migration/receive.js';
import { health } from '../../src/streams/health.js';
import { marbles, type MarbleTest, type TestDevice } from '../../src/testing/index.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';

const [err, req] = [{ index: VFIO_PCI_ERR_IRQ_INDEX }, { index: VFIO_PCI_REQ_IRQ_INDEX }];

function device(t: MarbleTest, name: string): TestDevice {
  const one = t.device({ regions: [{ index: 0, size: 0x1000 }], remap: false, mailbox: false, irqs: { err: true, req: true }, name });
  one.driver.faults.arcLatencyUs = 2;
  return one;
}

/** Rounds without end, unless somebody ends them. */
const again = map((): RoundVerdict => 'again');

function both(t: MarbleTest, plan: Partial<MigrationPlan> = {}) {
  const [vf, to] = [device(t, 'vf'), device(t, 'to')];
  const { connecting, listening } = memoryTransport({ latencyMs: 0.001 });
  const phase = map(({ phase: one }: { readonly phase: string }) => one);
  const source$ = migrate({ transport: connecting, journal: memoryJournal(), devices: [{ source: vf, destination: 'd' }], roundPauseMs: 0.01, policy: again, ...plan }).pipe(phase);
  const destination$ = receive({ transport: listening, journal: memoryJournal(), devices: [{ name: 'd', destination: to }] }).pipe(phase);
  return { vf, to, source$, destination$ };
}

const phases = { c: 'check', p: 'pre-copy', s: 'stop', t: 'transfer', e: 'prepare', m: 'commit', r: 'release', d: 'moved', b: 'roll-back' };

describe('what the devices say by their irqs while they are migrated', () => {
  it('ERR at the source ends it: the source runs on, and the error names the device', () => {
    marbles((t) => {
      const { vf, source$, destination$ } = both(t);
      t.at('                 ------------------e', { e: () => vf.driver.raise(err) });
      t.expect(destination$).toBe('c------p-----------<b,b,#>', phases, { code: 'VFIO_E_PEER' });
      t.expect(source$).toBe('     c-------p-<p,p>-------b-<b,#>', phases, { code: 'VFIO_E_DEVICE_ERROR', device: 'vf' });
      t.expectDevice(vf).toShow({ state: '--------[<pre-copy>-]-------[<running>-]' });
    });
  });

  it('ERR at the destination ends it there, and the source hears why', () => {
    marbles((t) => {
      const { vf, to, source$, destination$ } = both(t);
      t.at('                 ------------------e', { e: () => to.driver.raise(err) });
      t.expect(destination$).toBe('c------p----------<b,b,#>', phases, { code: 'VFIO_E_DEVICE_ERROR', device: 'to' });
      t.expect(source$).toBe('     c-------p-<p,p>--------b-<b,#>', phases, { code: 'VFIO_E_PEER' });
      t.expectDevice(vf).toShow({ state: '--------[<pre-copy>-]--------[<running>-]' });
    });
  });

  it('REQ at the source: no further round, and what was moved is given back', () => {
    marbles((t) => {
      const { vf, source$ , destination$ } = both(t);
      t.at('                 ------------------q', { q: () => vf.driver.raise(req) });
      t.expect(destination$).toBe('c------p-------------t-----e-m-r---<d,|>', phases);
      t.expect(source$).toBe('     c-------p-<p,p>---------<p,s>-----<t,e>---m-----r-<d,|>', phases);
      t.expectDevice(vf).toShow({ state: '--------[<pre-copy>-]-----------[<stop-copy>---]---------[<stop>-]' });
      t.atEnd(() => expect([vf.driver.opens, vf.driver.irqs]).toEqual([0, 0]));
    });
  });

  it('REQ at the destination ends it there: a device that is wanted back can take none', () => {
    marbles((t) => {
      const { to, source$, destination$ } = both(t);
      t.at('                 ------------------q', { q: () => to.driver.raise(req) });
      t.expect(destination$).toBe('c------p----------<b,b,#>', phases, { code: 'VFIO_E_ABORTED', device: 'to' });
      t.expect(source$).toBe('     c-------p-<p,p>--------b-<b,#>', phases, { code: 'VFIO_E_PEER' });
    });
  });

  it('nothing where their user listens: that is his to steer, by abort', () => {
    marbles((t) => {
      const { vf, source$, destination$ } = both(t, { policy: map(({ round }: RoundReport): RoundVerdict => (round > 2 ? 'switch-over' : 'again')) });
      t.at('            ------------------e', { e: () => vf.driver.raise(err) });
      t.expect(health(vf).pipe(map(({ errors }) => errors)), '^ 100us !').toBe('a-----------------b', { a: 0n, b: 1n });
      t.expect(destination$).toBe('c------p-------------t-----e-m-r---<d,|>', phases);
      t.expect(source$).toBe('     c-------p-<p,p>---------<p,s>-----<t,e>---m-----r-<d,|>', phases);
    });
  });

  it('nothing any more after the decision: ERR is for the caller', () => {
    marbles((t) => {
      const { vf, source$, destination$ } = both(t, { policy: map((): RoundVerdict => 'switch-over') });
      t.at('            ----------------------e', { e: () => vf.driver.raise(err) });
      t.expect(destination$).toBe('c------p---t-----e-m-r---<d,|>', phases);
      t.expect(source$).toBe('     c-------p-<p,s>-----<t,e>---m-----r-<d,|>', phases);
    });
  });
});
