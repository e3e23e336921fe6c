import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, resolve } from 'node:path';

/**
 * The house as ARCHITECTURE.md draws it. The table there is the rule, and this reads it: there is no second one that could
 * say otherwise.
 */
export interface Place {
  readonly floor: number;
  readonly room: string;
}

const root = resolve(import.meta.dirname, '..', '..');

/** A row's room: `[src/x](src/x)` is a folder, `[src](src)`/{a,b-*}.ts` names files. */
const row = /^\| (\d+) \| \[(src[\w/-]*)\]\(\2\)(?:`\/([^`]+)`)? \|/gm;

const rooms = [...readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').matchAll(row)].map(([, floor, folder = '', files]) => ({
  floor: Number(floor),
  room: files === undefined ? folder : `${folder}/${files}`,
  has: files === undefined ? (file: string) => file.startsWith(`${folder}/`) : matcher(`${folder}/${files}`),
}));

function matcher(pattern: string): (file: string) => boolean {
  const expression = pattern
    .replaceAll(/[.]/g, '\\.')
    .replaceAll('*', '[^/]+')
    .replaceAll('{', '(?:')
    .replaceAll('}', ')')
    .replaceAll(',', '|');
  const whole = new RegExp(`^${expression}$`);
  return (file) => whole.test(file);
}

/** The highest room comes first in the table, and a room of named files before the folder around them. Throws where a file has none. */
export function place(file: string): Place {
  const found = rooms.find(({ has }) => has(file));
  if (found === undefined) throw new Error(`${file} stands on no floor: give it a room in the table of ARCHITECTURE.md`);
  return found;
}

export function roomNames(): readonly string[] {
  return rooms.map(({ room }) => room);
}

/** Every file of src, as `src/...`. */
export function sourceFiles(): readonly string[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.[cm]?[jt]s$/.test(name))
    .map((name) => posix.join('src', name));
}

export function textOf(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** The file that a relative name means; this package's own name means an entry point. undefined: another package. */
export function targetOf(from: string, name: string): string | undefined {
  if (/^vfio-rx(\/|$)/.test(name)) return posix.join('src', name.slice('vfio-rx'.length), 'index.ts');
  if (!/^(\.\.?\/|\.\.$)/.test(name)) return undefined;
  return posix.join(posix.dirname(from), name).replace(/\.js$/, '.ts');
}

/** What is wrong with naming one file in another; undefined where it goes down, or stays in the room. */
export function importFault(from: string, name: string): string | undefined {
  const to = targetOf(from, name);
  if (to === undefined) return undefined;
  const above = place(from);
  const below = place(to);
  if (below.floor < above.floor || (below.floor === above.floor && below.room === above.room)) return undefined;
  return `${from} (floor ${above.floor}) imports ${to} (floor ${below.floor})`;
}
