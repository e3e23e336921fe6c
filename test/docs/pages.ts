import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** The pages of the project, and what of Markdown their tests have to know. */

/** Every page that is under version control, or about to be; what is mirrored for reading only is not. */
export function pagesOf(root: string): readonly string[] {
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.md'], { cwd: root, encoding: 'utf8' });
  return [...new Set(listed.split('\n'))].filter((path) => path !== '').sort();
}

export function readPage(path: string): string {
  return readFileSync(path, 'utf8');
}

/** Relative links, in their order. Code has none. */
export function linksOf(page: string): readonly string[] {
  const text = withoutCode(page).replaceAll(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link).filter((link) => !/^[a-z]+:/i.test(link));
}

/** What a link may name after its `#`, as GitHub makes it of headings. */
export function anchorsOf(page: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of withoutCode(page).matchAll(/^#{1,6} +(.*)$/gm)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase().replaceAll(/[^\p{Letter}\p{Number}\s_-]/gu, '').trim().replaceAll(/\s/g, '-');
    let anchor = plain;
    for (let again = 1; anchors.has(anchor); again += 1) anchor = `${plain}-${again}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** The rows of every table, cell by cell, without the lines below the headings. */
export function rowsOf(page: string): readonly (readonly string[])[] {
  return withoutCode(page).split('\n').filter((line) => line.startsWith('|') && !/^\|[\s|:-]+\|$/.test(line)).map((line) => line.replaceAll('\\|', '\u0000').split('|').slice(1, -1).map((cell) => cell.replaceAll('\u0000', '|').trim()));
}

function withoutCode(page: string): string {
  return page.replaceAll(/^( *)(`{3,})[\s\S]*?^\1\2$/gm, '');
}
