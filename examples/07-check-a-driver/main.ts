import { concat, defer, EMPTY } from 'rxjs';
import { softwareDevice, withDevice } from 'vfio-rx';
import { checkDevice, checkMigration, deviceMigrationHarness, linesOf, type RuleResult } from 'vfio-rx/testing';
import { addressOf, interrupted, parsed, run } from '../shared/program.js';

/**
 * Does the driver of a device keep what the contract promises? Each rule has the device opened for itself.
 *
 * ```
 * device   [r-][r-][r-]--...    one rule after the other
 * results  ---p---p---f--...    passed, failed, or skipped where there is nothing to find out
 * ```
 */

const { device: name, spoilt = false } = parsed({ options: { device: { type: 'string' }, spoilt: { type: 'boolean' } } }).values;

// Spoilt, its driver waits on for the ack of an irq that was taken away.
const address = addressOf(name, (named) => {
  const software = softwareDevice(named);
  software.driver.faults.ignoreDisable = spoilt;
  return software;
});

/** It is left behind the rule in hand: nothing is open there. */
const left = new AbortController();

function told(result: RuleResult): void {
  if (result.outcome === 'failed') console.log(linesOf([result])[0]);
}

async function checked(): Promise<void> {
  const harness = deviceMigrationHarness(address);
  const results = [...(await checkDevice(harness, told, left)), ...(await checkMigration(harness, told, left))];
  console.log(linesOf(results).at(-1));
  if (results.some(({ outcome }) => outcome === 'failed')) process.exitCode = 1;
}

interrupted.subscribe({ next: () => left.abort(), error: () => undefined });
// One that cannot be opened is said once, and not by every rule.
run(concat(withDevice(address, () => EMPTY), defer(checked)));
