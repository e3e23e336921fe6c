import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { writeText } from '../../src/cli/write-text.js';

it('a file is written, or a typed error names it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-write-'));
  writeText(join(folder, 'a'), 'text');
  expect(readFileSync(join(folder, 'a'), 'utf8')).toBe('text');
  expect(() => writeText(folder, 'text')).toThrow(expect.objectContaining({ code: 'VFIO_E_IO', errno: 'EISDIR', device: folder }) as Error);
  rmSync(folder, { recursive: true });
});
