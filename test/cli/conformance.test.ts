import { lastValueFrom, NEVER, Subject } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { conformanceCommand, conformanceRules, type ConformanceOptions } from '../../src/cli/conformance.js';
import { softwareDevice } from '../../src/devices/index.js';

async function said(options: Partial<ConformanceOptions> = {}): Promise<{ readonly code: number; readonly text: string }> {
  const written: string[] = [];
  const code = await lastValueFrom(conformanceCommand({ address: softwareDevice(), name: 'software0', form: 'lines', destructive: false, ...options }, (text) => written.push(text)));
  return { code, text: written.join('') };
}

describe('vfio-rx conformance', () => {
  it('writes a line for each rule, and a last one that counts', async () => {
    const { code, text } = await said();
    const lines = text.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(lines.length).toBe(conformanceRules.length + 1);
    expect(lines[0]).toBe('passed  REGION-1: every region that it lists answers, the same when it is asked again, and none beyond');
    expect(lines.at(-1)).toBe('29 passed, 0 failed, 16 skipped');
  });

  it('asks for more on request', async () => {
    expect((await said({ destructive: true })).text).toContain('34 passed, 0 failed, 11 skipped');
  });

  it('asks for less: a group of rules, or one', async () => {
    const { text } = await said({ only: ['IRQ', 'REMAP-3'] });
    expect([...text.matchAll(/^\w+ +(\S+):/gm)].map(([, rule]) => rule)).toEqual(['IRQ-1', 'IRQ-2', 'IRQ-3', 'IRQ-4', 'IRQ-5', 'IRQ-6', 'REMAP-3']);
  });

  it('ends with 1 where a rule is broken', async () => {
    const address = softwareDevice();
    address.driver.faults.failArc('stop', 'EIO', 1000);
    const { code, text } = await said({ address });
    expect(code).toBe(1);
    expect(text).toContain('failed  MIGRATION-2: every single arc of its flags leads where it says (device_state');
  });

  it('ends between two rules after the interrupt: nothing is open there', async () => {
    const interrupt = new Subject<void>();
    const lines: string[] = [];
    const write = (line: string): void => {
      lines.push(line);
      interrupt.next();
    };
    const options = { address: softwareDevice(), name: 'software0', form: 'lines', destructive: false } as const;
    await expect(lastValueFrom(conformanceCommand(options, write, interrupt))).rejects.toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect([lines[1], lines.length, interrupt.observed]).toEqual(['interrupted: it ends behind the rule that is being checked (Ctrl-C again ends at once)\n', 2, false]);
  });

  it('ends at once after the interrupt where the device is still being opened', async () => {
    const interrupt = new Subject<void>();
    const options = { address: { open: () => NEVER }, name: 'slow', form: 'lines', destructive: false } as const;
    const lines: string[] = [];
    const ended = lastValueFrom(conformanceCommand(options, (line) => lines.push(line), interrupt));
    interrupt.next();
    await expect(ended).rejects.toThrow('slow: conformance: interrupted before the device was open [VFIO_E_ABORTED]');
    expect(lines).toEqual([]);
  });

  it('fails where the device does not open', async () => {
    const address = softwareDevice();
    address.driver.remove();
    await expect(said({ address })).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
  });

  it('writes JSON or JUnit XML as one document', async () => {
    const json = JSON.parse((await said({ form: 'json' })).text) as { readonly device: string; readonly results: readonly unknown[] };
    expect(json.device).toBe('software0');
    expect(json.results[0]).toEqual({ rule: 'REGION-1', title: 'every region that it lists answers, the same when it is asked again, and none beyond', outcome: 'passed' });
    expect((await said({ form: 'junit' })).text).toContain(`<testsuite name="software0" tests="${conformanceRules.length}" failures="0" skipped="16">`);
  });
});
