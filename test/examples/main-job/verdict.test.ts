import { describe, expect, it } from 'vitest';
import { judge, type Evidence } from '../../../examples/main-job/verdict.js';
import { goodEvidence, goodTrace, traceOf } from './evidence.js';

/** What the verdict has against a run that is good but for this. */
function wrongWith(change: Partial<Evidence>): readonly string[] {
  const { ok, checks } = judge({ ...goodEvidence(), ...change });
  const wrong = checks.filter((check) => !check.ok).map(({ what, detail }) => `${what}: ${detail}`);
  expect(ok).toBe(wrong.length === 0);
  return wrong;
}

const guest = { received: 50, duplicates: 0, missing: 0, byMap: 30, byTrap: 20 };
const deliveries = (change: Partial<typeof guest>, stale = 0): Pick<Evidence, 'deliveries'> => ({ deliveries: { guests: [guest, { ...guest, ...change }], stale } });

describe('the verdict', () => {
  it('is good where everything is', () => {
    expect(wrongWith({})).toEqual([]);
  });

  it.each([
    ['a number that was lost', deliveries({ received: 49, missing: 1 }), 'every number of the guest in the worker arrived once: 50 sent, 49 received, 0 twice, 1 missing'],
    ['the last number lost, which leaves no gap', deliveries({ received: 49 }), 'every number of the guest in the worker arrived once: 50 sent, 49 received, 0 twice, 0 missing'],
    ['a number that came twice', deliveries({ duplicates: 1 }), 'every number of the guest in the worker arrived once: 50 sent, 50 received, 1 twice, 0 missing'],
    ['a guest that waited out every revocation', deliveries({ byMap: 50, byTrap: 0 }), 'the guest in the worker went on without its mapping: 50 mapped, 0 trapped'],
    ['a stale write', deliveries({}, 1), 'nothing came by a revoked path: 1 stale writes'],
    ['an ack out of its place', { trace: traceOf(goodTrace, [/15 .*\n/, '']) }, 'every ack came in its place: wait at event 11: the ack came before region 1 was unmapped'],
    ['a trace with holes', { traceMissed: 3 }, 'every ack came in its place: 3 events of the trace are missing'],
    ['a run without any wait', { trace: traceOf('0 1 open') }, 'every ack came in its place: the driver never waited for an ack'],
    ['a signal that was not acked', { sums: { sent: 3n, acked: 2n } }, 'every signal was acked: 3 signalled, 2 acked'],
    ['a violation', { violations: 1 }, 'the user broke no rule: 1 violations'],
    ['a mapping that is left', { held: { opens: 0, vmas: 1, irqs: 0, waiters: 0 } }, 'nothing is held after the close: opens 0, vmas 1, irqs 0, waiters 0'],
    ['an error', { failures: ['it broke'] }, 'nothing failed on the way: it broke'],
  ])('is wrong with %s', (_what, change, wrong) => {
    expect(wrongWith(change)).toEqual([wrong]);
  });

  it('does not believe a guest that never sent', () => {
    const silent = { received: 0, duplicates: 0, missing: 0, byMap: 0, byTrap: 0 };
    const wrong = wrongWith({ guests: [{ id: 0, name: 'guest', sent: 0 }], deliveries: { guests: [silent], stale: 0 } });
    expect(wrong).toContain('every number of the guest arrived once: 0 sent, 0 received, 0 twice, 0 missing');
  });

  it('does not believe numbers that it cannot read', () => {
    expect(wrongWith({ deliveries: { guests: [], stale: NaN } })).toContain('nothing came by a revoked path: NaN stale writes');
  });

  it.each([
    ['nothing', 'no mapping ever moved: 2 areas were unmapped'],
    ['unasked', 'the user moved before each write: device_state was never written; nothing was ever unmapped'],
    ['watched', 'every wait ended when the areas were gone: event 16: an ack, and nobody waits for one; event 25: an ack, and nobody waits for one'],
  ] as const)('judges a driver whose answer is %s by other signs', (answer, wrong) => {
    const trace = answer === 'unasked' ? { trace: traceOf('0 1 open') } : {};
    expect(wrongWith({ answer, ...trace })).toContain(wrong);
  });
});
