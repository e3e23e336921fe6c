import { describe, it } from 'vitest';
import { patienceMs, runs, seed } from '../promise.js';
import type { RowName } from '../rows.js';
import { cellOf } from './cells.js';
import { checkCell } from './check.js';
import { faults } from './misbehaviours.js';
import { cellPrinted, expectKept } from './verdict.js';

/** All cells of one row. A file for each row, so that they run side by side. */
export function describeRow(row: RowName): void {
  describe(`the contract of ${row}`, () => {
    for (const { what } of faults) {
      const cell = cellOf(row, what);
      // The table in docs/contract.md says why there is no such cell.
      if (cell.nonsense !== undefined) continue;
      it(what === 'none' ? 'with a driver that keeps its duties everything holds' : `a driver that misbehaves: ${what}`, () => {
        const result = checkCell(cell, runs, seed);
        console.log(cellPrinted(cell, result, seed));
        expectKept(cell, result, seed);
      }, patienceMs);
    }
  });
}
