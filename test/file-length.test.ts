import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '..');
const most = 400;

/** What people write and read; traces and recordings are data. */
const isText = (name: string): boolean => /\.([cm]?[jt]s|[ch]|md|sh)$/.test(name);

const tooLong = (text: string): boolean => text.trimEnd().split('\n').length > most && !/Over 400 lines: \S+/.test(text);

it('keeps files short: one with more than 400 lines says why', () => {
  const files = ['src', 'test', 'examples', 'bench', 'drivers', 'docs'].flatMap((folder) => readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`)).filter(isText);
  expect(files.length).toBeGreaterThan(500);
  expect(files.filter((file) => tooLong(readFileSync(join(root, file), 'utf8')))).toEqual([]);
});

it('sees a file that is too long', () => {
  expect(tooLong('\n'.repeat(399) + 'x')).toBe(false);
  expect(tooLong('\n'.repeat(400) + 'x')).toBe(true);
  expect(tooLong('// Over 400 lines: it is one table.\n' + '\n'.repeat(400) + 'x')).toBe(false);
});
