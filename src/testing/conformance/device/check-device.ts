import type { Abortable } from '../../../abort.js';
import { checkRule, checkRules, describeRules, type Lacks, type Rule, type RuleResult, type TestRunner } from '../rule.js';
import { dirtyLogRules } from './dirty-log.js';
import type { DeviceHarness, DeviceNeed } from './harness.js';
import { deviceIrqRules } from './irqs.js';
import { regionRules } from './regions.js';
import { remapRules } from './remaps.js';

/** What the driver of any device promises of its regions, its irqs, its remaps and its log of written pages. */
export const deviceRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [...regionRules, ...deviceIrqRules, ...remapRules, ...dirtyLogRules];

/** Finds out about one rule on a device of its own. */
export function deviceResult(harness: DeviceHarness, rule: Rule<DeviceHarness, DeviceNeed>): Promise<RuleResult> {
  const lacks: Lacks<DeviceNeed> = {
    ...(harness.state === undefined ? { state: 'nobody says what a guest would see of its state' } : {}),
    ...(harness.writes === undefined ? { writes: 'nobody says how it writes by DMA' } : {}),
    ...(harness.destructive === true ? {} : { destructive: 'only on request: it may hurt the device' }),
    ...harness.lacks,
  };
  return checkRule(rule, harness, lacks, () => harness.dispose());
}

/** Finds out about these rules, one after the other, and tells each result as it is known. */
export function deviceResults(harness: DeviceHarness, rules: readonly Rule<DeviceHarness, DeviceNeed>[], told?: (result: RuleResult) => void, options: Abortable = {}): Promise<readonly RuleResult[]> {
  return checkRules(rules, (rule) => deviceResult(harness, rule), options, told);
}

/**
 * Checks the driver of any device against the rules of its regions, irqs, remaps and its log of written pages. `checkMigration` has
 * those of device_state. Aborted by `signal`, it rejects with VFIO_E_ABORTED behind the rule in hand, whose device is closed.
 *
 * @example
 * const results = await checkDevice(deviceMigrationHarness('0000:03:00.1'));
 * @see describeDevice, checkMigration, softwareMigrationHarness
 */
export function checkDevice(harness: DeviceHarness, told?: (result: RuleResult) => void, options?: Abortable): Promise<readonly RuleResult[]> {
  return deviceResults(harness, deviceRules, told, options);
}

/** The same as tests of a runner, one for each rule. */
export function describeDevice(runner: TestRunner, name: string, harness: DeviceHarness): void {
  describeRules(runner, `${name} as a device`, deviceRules, (rule) => deviceResult(harness, rule));
}
