import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { documentOf, type Document, type Kind } from './document.js';

export interface Page {
  /** Relative to the root. */
  readonly path: string;
  readonly document: Document;
  /** What is in the package is typed where that is installed, too. */
  readonly kinds: readonly Kind[];
}

/** All that a user reads: README, docs with its guides, and the examples. */
export function pagesOf(root: string): readonly Page[] {
  const within = (folder: string): readonly string[] => existsSync(join(root, folder)) ? readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).sort().map((name) => `${folder}/${name}`) : [];
  return ['README.md', ...within('docs'), ...within('examples')].filter((path) => path.endsWith('.md')).map((path) => ({
    path,
    document: documentOf(readFileSync(join(root, path), 'utf8')),
    kinds: path.startsWith('examples/') ? ['clone'] : ['clone', 'installed'],
  }));
}
