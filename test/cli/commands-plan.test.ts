import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EMPTY, lastValueFrom, NEVER } from 'rxjs';
import { afterAll, expect, it, vi } from 'vitest';
import { workOf } from '../../src/cli/program.js';
import { defaultDeadlines, type MigrationPlan } from '../../src/migration/plan.js';

const plans = vi.hoisted((): MigrationPlan[] => []);
vi.mock('../../src/migration/migrate.js', () => ({
  migrate: (plan: MigrationPlan) => {
    plans.push(plan);
    return EMPTY;
  },
}));

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** What the command line makes of a migration. */
async function planned(...flags: readonly string[]): Promise<MigrationPlan> {
  const work = workOf(['migrate', 'software:a?bytes=4096=d0', 'software:b?bytes=4096=d1', '--to', 'unix:/nobody', '--journal', join(folder, 'journal'), ...flags], { write: () => undefined }, NEVER);
  await lastValueFrom(work, { defaultValue: undefined });
  return plans.splice(0)[0] as MigrationPlan;
}

it('the options of migrate are those of its plan', async () => {
  const plain = await planned();
  expect(plain.devices.map(({ source, destination }) => [source.name, destination])).toEqual([['a', 'd0'], ['b', 'd1']]);
  expect([plain.transport.name, plain.journal.name]).toEqual(['unix:/nobody', join(folder, 'journal')]);
  expect([plain.downtimeLimitMs, plain.noPeerToPeer ?? false, plain.deadlines]).toEqual([undefined, false, undefined]);
  const told = await planned('--downtime', '25', '--no-peer-to-peer', '--patience', '700');
  expect([told.downtimeLimitMs, told.noPeerToPeer]).toEqual([25, true]);
  // The rounds end by their policy.
  expect(told.deadlines).toEqual(Object.fromEntries(Object.keys(defaultDeadlines).filter((phase) => phase !== 'pre-copy').map((phase) => [phase, 700])));
});
