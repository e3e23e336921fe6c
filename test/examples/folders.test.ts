import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

const examples = resolve(import.meta.dirname, '..', '..', 'examples');
const folders = readdirSync(examples, { withFileTypes: true }).filter((entry) => entry.isDirectory() && entry.name !== 'shared').map(({ name }) => name);
const numbered = folders.filter((name) => /^\d/.test(name));
const text = (...path: readonly string[]): string => readFileSync(join(examples, ...path), 'utf8');

describe('every folder of examples', () => {
  it('is one of many, and their numbers are 01, 02, ...', () => {
    expect(numbered.map((name) => name.slice(0, 3))).toEqual(numbered.map((_, n) => `${String(n + 1).padStart(2, '0')}-`));
    expect(numbered.length).toBeGreaterThanOrEqual(12);
  });

  it.each(folders)('%s has a test, a program, and a row in the table', (folder) => {
    expect(existsSync(join(import.meta.dirname, `${folder}.test.ts`))).toBe(true);
    expect(existsSync(join(examples, folder, 'main.ts'))).toBe(true);
    expect(text('README.md')).toContain(`(${folder}`);
  });

  it.each(numbered)('%s has a page with its command, a marble, and nothing of src', (folder) => {
    expect(text(folder, 'README.md')).toContain(`npx tsx examples/${folder}/main.ts`);
    expect(text(folder, 'main.ts')).toMatch(/^ \* ```\n( \* .*\n)+ \* ```$/m);
    for (const file of readdirSync(join(examples, folder)).filter((name) => name.endsWith('.ts'))) expect(text(folder, file)).not.toMatch(/from '[./]*\/src\//);
  });
});
