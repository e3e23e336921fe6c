import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { deviceRules, migrationRules, operatorRules, portRules, streamRules } from '../../../src/testing/index.js';

const contract = readFileSync(resolve(import.meta.dirname, '..', '..', '..', 'docs/contract.md'), 'utf8').split('\n');
const port = readFileSync(resolve(import.meta.dirname, '..', '..', '..', 'src/devices/port.ts'), 'utf8');

/** The rows of docs/contract.md as the suite would have them. */
const row = ({ id, title, needs = [] }: { readonly id: string; readonly title: string; readonly needs?: readonly string[] }): string => `| ${id} | ${title} | ${needs.join(', ')} |`;

const ofGroup = (group: string): typeof deviceRules => deviceRules.filter(({ id }) => id.startsWith(`${group}-`));
const suites = {
  PORT: portRules, STREAM: streamRules, OPERATOR: operatorRules, REGION: ofGroup('REGION'), IRQ: ofGroup('IRQ'), REMAP: ofGroup('REMAP'), LOG: ofGroup('LOG'), MIGRATION: migrationRules,
};

describe('docs/contract.md', () => {
  for (const [name, rules] of Object.entries(suites)) {
    it(`lists every rule ${name}-n as its suite checks it`, () => {
      expect(contract.filter((line) => line.startsWith(`| ${name}-`))).toEqual(rules.map(row));
    });

    it(`gives no number ${name}-n twice, and leaves none out`, () => {
      const numbers = rules.map(({ id }) => id.slice(name.length + 1).split('.').map(Number));
      let [lastRule, lastPart] = [0, 0];
      for (const [rule = 0, part] of numbers) {
        expect(rule === lastRule ? part : rule).toBe(rule === lastRule ? lastPart + 1 : lastRule + 1);
        if (rule !== lastRule) expect(part ?? 1).toBe(1);
        [lastRule, lastPart] = [rule, part ?? 1];
      }
    });
  }

  it('lists a check for each rule that DevicePort states, and for no other', () => {
    const stated = [...port.matchAll(/^ \* - \*\*(PORT-\d+)\*\*/gm)].map(([, rule]) => rule);
    expect([...new Set(portRules.map(({ id }) => id.split('.')[0]))]).toEqual(stated);
  });
});
