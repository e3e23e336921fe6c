import { readFileSync } from 'node:fs';
import { afterAll, expect, it } from 'vitest';
import { checkDevice, checkMigration, checkPort, deviceMigrationHarness, sampleState, softwareMigrationHarness, softwarePortHarness, virtualRun, type RuleResult } from '../../../src/testing/index.js';
import { OtherProcess } from '../../support/vfio-user/other-process.js';
import { vfioUserHarness } from '../../support/vfio-user/port-harness.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

/** For all suites on a busy machine: only against one that does not end, ms. */
const patienceMs = 300_000;

/** Every suite that a device can be put to, in this process and over client and server. */
const suites: readonly { readonly name: string; readonly software: () => Promise<readonly RuleResult[]>; readonly user: () => Promise<readonly RuleResult[]> }[] = [
  {
    name: 'port',
    software: () => virtualRun((clock) => checkPort(softwarePortHarness({ clock }))),
    user: () => checkPort(vfioUserHarness(other)),
  },
  ...([{ remap: false }, { remap: { signals: 'doorbell' } }, { remap: { signals: 'bitmap' } }] as const).map(({ remap }) => {
    const device = { remap, dmaLogging: 4096 };
    // Nobody has the device write by DMA: its script is in the other process.
    return {
      name: `device, ${remap === false ? 'without remaps' : remap.signals}`,
      software: () => virtualRun((clock) => checkDevice({ ...softwareMigrationHarness({ clock, device }), lacks: { writes: 'not here' } })),
      user: () => checkDevice(deviceMigrationHarness(`vfio-user:${other.serve(device).path}`, { destructive: true, state: sampleState })),
    };
  }),
  ...[1, 5, 7].flatMap((flags) => ([false, true] as const).map((remaps) => {
    const device = { ...(remaps ? {} : { remap: false as const }), migration: flags };
    return {
      name: `migration, flags ${flags}${remaps ? ', with remaps' : ''}`,
      software: () => virtualRun((clock) => checkMigration(softwareMigrationHarness({ clock, device }))),
      user: () => checkMigration(deviceMigrationHarness(`vfio-user:${other.serve(device).path}`, { destructive: true, state: sampleState })),
    };
  })),
];

function ids(results: readonly RuleResult[], outcome: RuleResult['outcome']): readonly string[] {
  return results.filter((result) => result.outcome === outcome).map(({ rule }) => rule);
}

/** The rules that docs/contract.md says are not checked over vfio-user. */
function excused(): readonly string[] {
  const [, table = ''] = /Over \[vfio-user\][^]*?\n((?:\|.*\n)+)/.exec(readFileSync(new URL('../../../docs/contract.md', import.meta.url), 'utf8')) ?? [];
  return [...table.matchAll(/[A-Z]+-[0-9.]+/g)].map(([rule]) => rule);
}

interface Compared {
  readonly here: readonly RuleResult[];
  readonly there: readonly RuleResult[];
  /** Rules that are kept here, and not asked for there. */
  readonly less: readonly string[];
}

const runs = new Map<string, Promise<Compared>>();
const lines: string[] = [];
afterAll(() => console.log(lines.join('\n')));

/** A suite is run once, by the first test that asks for it. */
function compared({ name, software, user }: (typeof suites)[number]): Promise<Compared> {
  const run = runs.get(name) ?? (async () => {
    const [here, there] = [await software(), await user()];
    const less = ids(there, 'skipped').filter((rule) => !ids(here, 'skipped').includes(rule));
    lines.push(`${name}: ${ids(here, 'passed').length} rules on the software port, ${ids(there, 'passed').length} over vfio-user${less.length === 0 ? '' : ` (not ${less.join(', ')})`}`);
    return { here, there, less };
  })();
  runs.set(name, run);
  return run;
}

it.each(suites)('$name: over client and server it is that of the software port', async (suite) => {
  const { here, there } = await compared(suite);
  expect(there.filter(({ outcome }) => outcome === 'failed')).toEqual([]);
  expect(there.map(({ rule }) => rule)).toEqual(here.map(({ rule }) => rule));
}, patienceMs);

it('what is missing over vfio-user is named in docs/contract.md', async () => {
  const missing = new Set<string>();
  for (const suite of suites) for (const rule of (await compared(suite)).less) missing.add(rule);
  expect([...missing].sort()).toEqual([...excused()].sort());
}, patienceMs);
