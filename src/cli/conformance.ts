import { concat, defer, EMPTY, from, map, type Observable } from 'rxjs';
import { withDevice, type DeviceAddress } from '../devices/open.js';
import { checkMigration } from '../testing/conformance/migration/check-migration.js';
import { deviceMigrationHarness } from '../testing/conformance/migration/address-harness.js';
import { junitOf, lineOf, summaryOf } from '../testing/conformance/report.js';
import type { RuleResult } from '../testing/conformance/rule.js';

/** What `vfio-rx conformance` is told. */
export interface ConformanceOptions {
  readonly address: DeviceAddress;
  /** How the device is called in what is written. */
  readonly name: string;
  readonly form: 'lines' | 'json' | 'junit';
  /** The rules that may hurt the device, too. */
  readonly destructive: boolean;
  /** How long one call may take, ms. */
  readonly patienceMs?: number;
}

/** Checks a device that migrates, and writes what it finds: a line as soon as it is known, or a document at the end. Emits the exit code. Fails as `openDevice` does. */
export function conformanceCommand({ address, name, form, destructive, patienceMs }: ConformanceOptions, write: (text: string) => void): Observable<number> {
  const told = (result: RuleResult): void => {
    if (form === 'lines') write(`${lineOf(result)}\n`);
  };
  const harness = deviceMigrationHarness(address, { destructive, ...(patienceMs === undefined ? {} : { patienceMs }) });
  const opens = withDevice(address, () => EMPTY);
  const checked = defer(() => from(checkMigration(harness, told))).pipe(
    map((results) => {
      if (form === 'json') write(`${JSON.stringify({ device: name, results: results.map(({ rule, title, outcome, reason }) => ({ rule, title, outcome, reason })) })}\n`);
      else write(form === 'junit' ? junitOf(name, results) : `${summaryOf(results)}\n`);
      return results.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
    }),
  );
  return concat(opens, checked);
}
