import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rows, type RowName } from '../rows.js';
import { cellOf, insteads, promisesOf } from './cells.js';
import { faults } from './misbehaviours.js';
import { withTable } from './table.js';

const document = readFileSync(new URL('../../../docs/contract.md', import.meta.url), 'utf8');

describe('docs/contract.md', () => {
  it('says what is tested: `npm run contract -- --table` brings it up to date', () => {
    expect(document).toBe(withTable(document));
  });

  it('lets nothing fall with a driver that keeps its duties', () => {
    for (const row of Object.keys(rows) as RowName[]) expect(cellOf(row, 'none').falls).toEqual([]);
  });

  it('puts at most one thing in the place of a promise, and only of one that the row has', () => {
    for (const row of Object.keys(rows) as RowName[]) {
      for (const { what } of faults) {
        const fallen = cellOf(row, what).falls.map((name) => insteads[name].of);
        expect(new Set(fallen).size, `${row}, ${what}`).toBe(fallen.length);
        expect(promisesOf(rows[row])).toEqual(expect.arrayContaining(fallen));
      }
    }
  });
});
