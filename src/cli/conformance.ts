import { concat, defer, EMPTY, from, ignoreElements, map, NEVER, take, takeUntil, tap, type Observable } from 'rxjs';
import { withDevice, type DeviceAddress } from '../devices/open.js';
import { VfioError } from '../errors.js';
import { deviceMigrationHarness } from '../testing/conformance/device/address-harness.js';
import { deviceResults, deviceRules } from '../testing/conformance/device/check-device.js';
import { migrationRules } from '../testing/conformance/migration/check-migration.js';
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
  /** The rules that are checked: a group (`REMAP`), or one of them (`REMAP-3`). Default: all. */
  readonly only?: readonly string[];
  /** How long one call may take, ms. */
  readonly patienceMs?: number;
}

/** Every rule of a device, in the order in which they are checked. */
export const conformanceRules = [...deviceRules, ...migrationRules];

/** Checks the driver of a device, and writes what it finds: a line as soon as it is known, or a document at the end. Emits the exit code. Fails as `openDevice` does, and between two rules with VFIO_E_ABORTED after the interrupt. */
export function conformanceCommand({ address, name, form, destructive, only, patienceMs }: ConformanceOptions, write: (text: string) => void, interrupt: Observable<unknown> = NEVER): Observable<number> {
  let checking = false;
  let left: string | undefined;
  // Between two rules nothing is open.
  const leave = (): void => {
    if (left !== undefined) throw new VfioError('VFIO_E_ABORTED', left, { operation: 'conformance', device: name });
  };
  const told = (result: RuleResult): void => {
    if (form === 'lines') write(`${lineOf(result)}\n`);
    leave();
  };
  const harness = deviceMigrationHarness(address, { destructive, ...(patienceMs === undefined ? {} : { patienceMs }) });
  const rules = conformanceRules.filter(({ id }) => only === undefined || only.some((one) => id === one || id.startsWith(`${one}-`)));
  const interrupted = (): void => {
    left = checking ? 'interrupted between two rules: the device is closed' : 'interrupted before the device was open';
    if (form === 'lines' && checking) write('interrupted: it ends behind the rule that is being checked (Ctrl-C again ends at once)\n');
  };
  // One that another process serves may let us wait for ever.
  const opens = withDevice(address, () => EMPTY).pipe(takeUntil(interrupt));
  const checked = defer(() => {
    leave();
    checking = true;
    return from(deviceResults(harness, rules, told));
  }).pipe(
    map((results) => {
      if (form === 'json') write(`${JSON.stringify({ device: name, results: results.map(({ rule, title, outcome, reason }) => ({ rule, title, outcome, reason })) })}\n`);
      else write(form === 'junit' ? junitOf(name, results) : `${summaryOf(results)}\n`);
      return results.some(({ outcome }) => outcome === 'failed') ? 1 : 0;
    }),
  );
  return concat(opens, checked).pipe(takeUntil(interrupt.pipe(take(1), tap(interrupted), ignoreElements())));
}
