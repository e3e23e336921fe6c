import type { Abortable } from '../../../abort.js';
import { checkRule, checkRules, describeRules, type Rule, type RuleResult, type TestRunner } from '../rule.js';
import { callRules } from './calls.js';
import { closeRules } from './close.js';
import { dmaRules } from './dma.js';
import type { PortHarness, PortNeed } from './harness.js';
import { irqRules } from './irqs.js';
import { memoryRules } from './memory.js';
import { savingRules } from './saving.js';
import { setIrqsRules } from './set-irqs.js';

/** Everything that `DevicePort` promises, in the order of its rules. */
export const portRules: readonly Rule<PortHarness, PortNeed>[] = [...callRules, ...memoryRules, ...irqRules, ...setIrqsRules, ...closeRules, ...dmaRules, ...savingRules]
  .sort((a, b) => Number(a.id.slice(5)) - Number(b.id.slice(5)));

function result(harness: PortHarness, rule: Rule<PortHarness, PortNeed>): Promise<RuleResult> {
  return checkRule(rule, harness, harness.lacks, () => harness.dispose());
}

/**
 * Checks a backend against every rule of `DevicePort`, each on a port of its own. Aborted by `signal`, it rejects with VFIO_E_ABORTED behind the rule in hand.
 *
 * @example
 * for (const { rule, outcome, reason } of await checkPort(myHarness)) console.log(rule, outcome, reason ?? '');
 * @see describePort, softwarePortHarness
 */
export function checkPort(harness: PortHarness, options: Abortable = {}): Promise<readonly RuleResult[]> {
  return checkRules(portRules, (rule) => result(harness, rule), options);
}

/**
 * The same as tests of a runner, one for each rule.
 *
 * @example
 * import { describe, it } from 'vitest';
 * describePort({ describe, it }, 'my backend', {
 *   patienceMs: 5000,
 *   briefMs: 50,
 *   lacks: { lieAboutRegion: 'the server cannot be made to lie' },
 *   openPort: async ({ ackTimeoutMs = 2000 } = {}) => {
 *     const server = await startServer({ ackTimeoutMs });
 *     const port = await firstValueFrom(openMyPort(server.socket));
 *     return { port, witness: server.witness, script: server.script };
 *   },
 *   dispose: () => stopServers(),
 * });
 * @see checkPort
 */
export function describePort(runner: TestRunner, name: string, harness: PortHarness): void {
  describeRules(runner, `${name} port`, portRules, (rule) => result(harness, rule));
}
