import { afterEach, describe, it } from 'vitest';
import { callChecks } from './checks-calls.js';
import { closeChecks } from './checks-close.js';
import { dmaChecks } from './checks-dma.js';
import { irqChecks } from './checks-irqs.js';
import { memoryChecks } from './checks-memory.js';
import { setIrqsChecks } from './checks-set-irqs.js';
import type { PortCheck, PortHarness } from './harness.js';

/** Every rule of `DevicePort`, as checks. They are values, so that `broken.test.ts` can see each of them fail. */
export const portChecks: readonly PortCheck[] = [...callChecks, ...memoryChecks, ...irqChecks, ...setIrqsChecks, ...closeChecks, ...dmaChecks]
  .sort((a, b) => Number(a.rule.slice(5)) - Number(b.rule.slice(5)));

/** Runs the suite over a port, in real time. `lacks`: what this driver cannot be made to do, and why. */
export function describePort(name: string, harness: PortHarness, lacks: Partial<Record<NonNullable<PortCheck['needs']>, string>> = {}): void {
  describe(`${name} port`, () => {
    afterEach(() => harness.dispose());
    for (const { rule, name: claim, check, needs } of portChecks) {
      const reason = needs === undefined ? undefined : lacks[needs];
      it(`${rule}: ${claim}`, async (context) => {
        if (reason !== undefined) context.skip(reason);
        await check(harness);
      });
    }
  });
}
