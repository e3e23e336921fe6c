import { existsSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { anchorsOf, linksOf, pagesOf, readPage } from './pages.js';

/** Every relative link of what a person reads leads somewhere: to a file, a folder, or a heading of a page. */

const root = resolve(import.meta.dirname, '../..');

/** Where a link of this page leads to, if that is nowhere; undefined: all is well. */
function lost(page: string, link: string): string | undefined {
  const [path = '', anchor] = decodeURI(link).split('#');
  const target = path === '' ? join(root, page) : resolve(root, page, '..', path);
  if (!existsSync(target)) return `${page}: ${link}: there is no such file`;
  if (anchor === undefined || statSync(target).isDirectory() || !target.endsWith('.md')) return undefined;
  return anchorsOf(readPage(target)).has(anchor) ? undefined : `${page}: ${link}: there is no such heading`;
}

describe('the links of the pages', () => {
  const pages = pagesOf(root);

  it('are those of README, docs, guides, examples and what stands beside the sources', () => {
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'ARCHITECTURE.md', 'docs/errors.md', 'docs/guides/1-first-pipeline.md', 'drivers/linux/README.md', 'test/lanes/README.md']));
    expect(pages.filter((page) => page.includes('node_modules'))).toEqual([]);
  });

  it.each(pages)('%s: all lead somewhere', (page) => {
    expect(linksOf(readPage(join(root, page))).flatMap((link) => lost(page, link) ?? [])).toEqual([]);
  });

  it('would be seen, if one led nowhere', () => {
    expect(lost('README.md', 'docs/nowhere.md')).toContain('no such file');
    expect(lost('README.md', 'docs/errors.md#nowhere')).toContain('no such heading');
    expect(lost('docs/errors.md', '../README.md#where-to-go')).toBeUndefined();
  });

  it('are read as GitHub reads them', () => {
    expect(linksOf('[a](b.md) [c](https://d.e) `[f](g)`\n```\n[h](i)\n```\n[j](#k)')).toEqual(['b.md', '#k']);
    expect([...anchorsOf('# One, two: `three`\n## A & b\n## A & b\n```\n# none\n```')]).toEqual(['one-two-three', 'a--b', 'a--b-1']);
  });
});
