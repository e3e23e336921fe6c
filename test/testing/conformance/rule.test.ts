import { describe, expect, it } from 'vitest';
import { checkRule, checkRules, demand, describeRules, skip, type Rule } from '../../../src/testing/conformance/rule.js';

const sound: Rule<number, 'luck'> = { id: 'X-1', title: 'is even', check: (n) => demand(n % 2 === 0, `${n} is odd`) };

describe('checkRule', () => {
  it('says that a rule holds, that it does not and why, or that there is nothing to find out', async () => {
    expect(await checkRule(sound, 2)).toEqual({ rule: 'X-1', title: 'is even', outcome: 'passed' });
    expect(await checkRule(sound, 3)).toEqual({ rule: 'X-1', title: 'is even', outcome: 'failed', reason: '3 is odd', error: new Error('3 is odd') });
    expect(await checkRule({ ...sound, check: () => skip('not today') }, 3)).toEqual({ rule: 'X-1', title: 'is even', outcome: 'skipped', reason: 'not today' });
  });

  it('skips what needs what is lacking, without asking', async () => {
    expect(await checkRule({ ...sound, needs: ['luck'] }, 3, { luck: 'there is none' })).toMatchObject({ outcome: 'skipped', reason: 'there is none' });
    expect(await checkRule({ ...sound, needs: ['luck'] }, 2)).toMatchObject({ outcome: 'passed' });
  });

  it('tidies up whatever came, and fails where that fails', async () => {
    const refuse = () => Promise.reject(new Error('cannot be closed'));
    expect(await checkRule(sound, 2, {}, refuse)).toMatchObject({ outcome: 'failed', reason: 'cannot be closed' });
    expect(await checkRule(sound, 3, {}, refuse)).toMatchObject({ outcome: 'failed', reason: '3 is odd' });
  });
});

describe('checkRules', () => {
  it('aborted, ends behind the rule in hand, and says so; aborted already, it looks at none', async () => {
    const controller = new AbortController();
    const told: string[] = [];
    const look = (rule: string) => {
      if (rule === 'X-2') controller.abort('enough');
      return checkRule({ ...sound, id: rule }, 2);
    };
    const checked = (rules: readonly string[]) => checkRules(rules, look, controller, ({ rule }) => { told.push(rule); });
    await expect(checked(['X-1', 'X-2', 'X-3'])).rejects.toMatchObject({ code: 'VFIO_E_ABORTED', operation: 'check', cause: 'enough' });
    expect(told).toEqual(['X-1', 'X-2']);
    await expect(checked(['X-4'])).rejects.toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect(told).toEqual(['X-1', 'X-2']);
  });
});

describe('describeRules', () => {
  it('makes a test of each rule, that passes, throws what the check threw, or is skipped', async () => {
    const tests: { readonly name: string; readonly body: (context: { skip(reason?: string): unknown }) => Promise<void> }[] = [];
    const suites: string[] = [];
    const skipped: (string | undefined)[] = [];
    const runner = { describe: (name: string, body: () => void) => { suites.push(name); body(); }, it: (name: string, body: (typeof tests)[number]['body']) => tests.push({ name, body }) };
    describeRules(runner, 'three', [sound, { ...sound, id: 'X-2' }, { ...sound, id: 'X-3', needs: ['luck'] }], (rule) => checkRule(rule, rule.id === 'X-2' ? 3 : 2, { luck: 'there is none' }));
    expect(suites).toEqual(['three']);
    expect(tests.map(({ name }) => name)).toEqual(['X-1: is even', 'X-2: is even', 'X-3: is even']);
    const run = (index: number) => tests[index]?.body({ skip: (reason) => skipped.push(reason) });
    await run(0);
    await expect(run(1)).rejects.toThrow('3 is odd');
    await run(2);
    expect(skipped).toEqual(['there is none']);
  });
});
