import { expect, it } from 'vitest';
import { columns } from '../../src/cli/columns.js';

it('columns are as wide as their widest cell, and nothing stands behind the last', () => {
  expect(columns([['a', 'bbb', 'c'], ['aaa', 'b', ''], ['', '', 'cc']])).toBe('a    bbb  c\naaa  b\n          cc\n');
  expect(columns([])).toBe('');
});
