import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { newestHeaders } from '../devices/uapi/fetch-header.mjs';
import { run } from '../lanes/children.mjs';

const root = resolve(import.meta.dirname, '..', '..');
const header = resolve(root, 'drivers/linux/vfio_region_remap.h');
const text = (file: string): string => readFileSync(resolve(root, file), 'utf8');

/** The rules that the header states: a line of its comment that begins with a number. */
const stated = [...text('drivers/linux/vfio_region_remap.h').matchAll(/^ \* (RR-\d+) /gm)].map(([, rule = '']) => rule);

/** A title that cites rules begins with them: `RR-19, RR-20: ...`. */
const citing = /'((?:RR-\d+, )*RR-\d+: (?:[^'\\\n]|\\.)*)'/g;

const files = readdirSync(resolve(root, 'test'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.test.ts')).map((name) => `test/${name}`).sort();
const cited = files.flatMap((file) => [...text(file).matchAll(citing)].map(([, title = '']) => ({ file, title: title.replaceAll(String.raw`\'`, "'") })));

const rulesOf = (title: string): readonly string[] => title.slice(0, title.indexOf(':')).split(', ');

/** The table of docs/contract.md as the tests would have it: rules in the header's order, tests in the files' order. */
const rows = stated.flatMap((rule) => cited.filter(({ title }) => rulesOf(title).includes(rule)).map(({ file, title }) => `| ${rule} | [${file}](../${file}) | ${title.replaceAll('|', String.raw`\|`)} |`));

describe('the rules of vfio_region_remap.h', () => {
  it('have each a number of its own, in rising order', () => {
    const numbers = stated.map((rule) => Number(rule.slice('RR-'.length)));
    expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
    expect(numbers.length).toBeGreaterThan(40);
  });

  it('have each a test that cites it, and no test cites a rule that is not there', () => {
    const tested = new Set(cited.flatMap(({ title }) => rulesOf(title)));
    expect([...tested].filter((rule) => !stated.includes(rule))).toEqual([]);
    expect(stated.filter((rule) => !tested.has(rule))).toEqual([]);
  });

  it('are listed in docs/contract.md with exactly these tests', () => {
    expect(text('docs/contract.md').split('\n').filter((line) => line.startsWith('| RR-'))).toEqual(rows);
  });
});

describe('vfio_region_remap.h', () => {
  const dialects = [
    ['gcc', 'c', 'c99'],
    ['gcc', 'c', 'c17'],
    ['g++', 'c++', 'c++98'],
    ['g++', 'c++', 'c++11'],
    ['g++', 'c++', 'c++20'],
  ] as const;
  for (const [compiler, language, standard] of dialects) it(`compiles alone: ${compiler}, ${standard}`, { timeout: 180_000 }, async (context) => {
    if ((await run(compiler, ['--version'])).code !== 0) context.skip(`${compiler} is missing: apt-get install ${compiler} libc6-dev`);
    const { includes } = await newestHeaders();
    const search = includes.flatMap((path) => ['-isystem', path]);
    const { code, stderr } = await run(compiler, ['-x', language, `-std=${standard}`, '-Wall', '-Wextra', '-pedantic', '-Werror', '-fsyntax-only', ...search, header]);
    expect([code, stderr]).toEqual([0, '']);
  });
});
