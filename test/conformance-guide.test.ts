import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

/** The programs of docs/conformance.md run as they stand there: its tests are tests of this file. */

const root = resolve(import.meta.dirname, '..');
const page = readFileSync(join(root, 'docs/conformance.md'), 'utf8');
const blocks = [...page.matchAll(/^```ts (\S+)\n([\s\S]*?)^```$/gm)].map(([, name = '', text = '']) => ({ name, text }));

/** What the package's name means before it is built. */
const here = (text: string): string => text
  .replaceAll("'vfio-rx'", JSON.stringify(join(root, 'src/index.ts')))
  .replaceAll("'vfio-rx/testing'", JSON.stringify(join(root, 'src/testing/index.ts')));

mkdirSync(join(root, '.cache'), { recursive: true });
const folder = mkdtempSync(join(root, '.cache', 'guide-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
for (const { name, text } of blocks) writeFileSync(join(folder, name), here(text));

describe('docs/conformance.md', () => {
  it('has programs, and a test for each', () => {
    const names = blocks.map(({ name }) => name);
    expect(names.filter((name) => name.endsWith('.test.ts')).length).toBe(5);
    for (const name of names.filter((one) => !one.endsWith('.test.ts'))) expect(names).toContain(name.replace('.ts', '.test.ts'));
  });
});

for (const { name } of blocks.filter((block) => block.name.endsWith('.test.ts'))) {
  await import(pathToFileURL(join(folder, name)).href);
}
