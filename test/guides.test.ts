import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

/** The programs of a page whose files have no first line with a name (test/typed types the others) run as they stand there: their tests are tests of this file. */

const root = resolve(import.meta.dirname, '..');

/** What the package's name means before it is built. */
const here = (text: string): string => text
  .replaceAll("'vfio-rx'", JSON.stringify(join(root, 'src/index.ts')))
  .replaceAll("'vfio-rx/testing'", JSON.stringify(join(root, 'src/testing/index.ts')));

mkdirSync(join(root, '.cache'), { recursive: true });
const folder = mkdtempSync(join(root, '.cache', 'guide-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The programs of a page, each in its file; a file that goes on further down is one. */
function programsOf(page: string): readonly { readonly name: string; readonly path: string }[] {
  const texts = new Map<string, string>();
  for (const [, name = '', text = ''] of readFileSync(join(root, 'docs', page), 'utf8').matchAll(/^```ts (\S+)\n([\s\S]*?)^```$/gm)) texts.set(name, `${texts.get(name) ?? ''}${text}`);
  const into = join(folder, page);
  mkdirSync(into);
  return [...texts].map(([name, text]) => {
    const path = join(into, name);
    writeFileSync(path, here(text));
    return { name, path };
  });
}

const pages = { 'conformance.md': 5 };

for (const [page, tests] of Object.entries(pages)) {
  const programs = programsOf(page);
  describe(`docs/${page}`, () => {
    it('has programs, and tests of them', () => {
      expect(programs.filter(({ name }) => name.endsWith('.test.ts')).length).toBe(tests);
    });
  });
  for (const { name, path } of programs) if (name.endsWith('.test.ts')) await import(pathToFileURL(path).href);
}
