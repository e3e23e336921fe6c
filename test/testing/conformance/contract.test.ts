import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { portRules } from '../../../src/testing/index.js';

const contract = readFileSync(resolve(import.meta.dirname, '..', '..', '..', 'docs/contract.md'), 'utf8').split('\n');
const port = readFileSync(resolve(import.meta.dirname, '..', '..', '..', 'src/devices/port.ts'), 'utf8');

/** The rows of docs/contract.md as the suite would have them. */
const row = ({ id, title, needs = [] }: { readonly id: string; readonly title: string; readonly needs?: readonly string[] }): string => `| ${id} | ${title} | ${needs.join(', ')} |`;

describe('docs/contract.md', () => {
  it('lists every rule of DevicePort as the suite checks it', () => {
    expect(contract.filter((line) => line.startsWith('| PORT-'))).toEqual(portRules.map(row));
  });

  it('lists a check for each rule that DevicePort states, and for no other', () => {
    const stated = [...port.matchAll(/^ \* - \*\*(PORT-\d+)\*\*/gm)].map(([, rule]) => rule);
    expect([...new Set(portRules.map(({ id }) => id.split('.')[0]))]).toEqual(stated);
  });

  it('gives no number twice, and leaves none out', () => {
    const ids = portRules.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) {
      const [rule = '', part = ''] = id.split('.');
      if (part !== '1') expect(ids).toContain(`${rule}.${Number(part) - 1}`);
    }
  });
});
