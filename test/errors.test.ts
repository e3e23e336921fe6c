import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../src/errors.js';

/** The rows of docs/errors.md: code, meaning, advice. */
const rows = readFileSync(join(import.meta.dirname, '..', 'docs', 'errors.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()));

describe('docs/errors.md', () => {
  it('lists the codes of the library, in their order', () => {
    expect(rows.map(([code]) => code?.replaceAll('`', ''))).toEqual(Object.keys(errorCodes));
  });

  it('says of each what it means and what can be done', () => {
    expect(rows.filter((cells) => cells.length !== 3 || cells.includes(''))).toEqual([]);
  });
});
