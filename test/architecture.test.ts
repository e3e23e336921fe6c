import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

/**
 * The house has floors, and an import only ever goes down; inside one floor it stays in one room.
 * ARCHITECTURE.md draws the same table.
 */
const floors: readonly (readonly [prefix: string, floor: number, room: string])[] = [
  ['src/cli/', 9, 'cli'],
  ['src/testing/', 8, 'testing'],
  ['src/streams/', 7, 'streams'],
  ['src/operators/', 6, 'operators'],
  ['src/devices/kernel/', 4, 'kernel'],
  ['src/devices/software/', 4, 'software'],
  ['src/devices/linux/', 3, 'linux'],
  ['src/devices/protocol/', 3, 'protocol'],
  ['src/devices/regions.ts', 3, 'protocol'],
  ['src/devices/holders.ts', 3, 'protocol'],
  ['src/devices/fast-path.ts', 3, 'protocol'],
  ['src/devices/port.ts', 2, 'port'],
  ['src/devices/call.ts', 2, 'port'],
  ['src/devices/uapi/', 1, 'uapi'],
  ['src/devices/', 5, 'device'],
  ['src/', 0, 'ground'],
];

const root = resolve(import.meta.dirname, '..');
const entryPoints = new Set(['src/index.ts', 'src/devices/index.ts', 'src/operators/index.ts', 'src/streams/index.ts', 'src/testing/index.ts']);

function place(file: string): { floor: number; room: string } {
  const found = floors.find(([prefix]) => file.startsWith(prefix));
  if (found === undefined) throw new Error(`${file} stands on no floor`);
  return { floor: found[1], room: found[2] };
}

function sourceFiles(): readonly string[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs)$/.test(name))
    .map((name) => join('src', name));
}

function importsOf(file: string): readonly string[] {
  const text = readFileSync(join(root, file), 'utf8');
  const specifiers = [...text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)].map((match) => match[1] ?? '');
  return specifiers.map((specifier) => relative(root, resolve(root, dirname(file), specifier)).replace(/\.js$/, '.ts'));
}

/** What is wrong with an import from one file to another; undefined where it goes down. */
function fault(from: string, to: string): string | undefined {
  const above = place(from);
  const below = place(to);
  if (below.floor < above.floor) return undefined;
  if (below.floor === above.floor && below.room === above.room) return undefined;
  return `${from} (floor ${above.floor}) imports ${to} (floor ${below.floor})`;
}

describe('the house', () => {
  it('lets imports only go down', () => {
    const faults = sourceFiles()
      .filter((file) => !entryPoints.has(file))
      .flatMap((file) => importsOf(file).map((to) => fault(file, to)))
      .filter((found) => found !== undefined);
    expect(faults).toEqual([]);
  });

  it('sees an import that goes up', () => {
    expect(fault('src/devices/uapi/region-info.ts', 'src/streams/irq.ts')).toContain('floor 7');
    expect(fault('src/devices/kernel/port.ts', 'src/devices/software/port.ts')).toContain('floor 4');
  });

  it('has no barrels but the entry points, and no default exports', () => {
    const files = sourceFiles();
    expect(files.filter((file) => file.endsWith('/index.ts') && !entryPoints.has(file))).toEqual([]);
    expect(files.filter((file) => /^export default/m.test(readFileSync(join(root, file), 'utf8')))).toEqual([]);
  });

  it('keeps the pure core free of rxjs', () => {
    const pure = sourceFiles().filter((file) => file.startsWith('src/devices/protocol/') || file.startsWith('src/devices/uapi/'));
    expect(pure.filter((file) => /from 'rxjs/.test(readFileSync(join(root, file), 'utf8')))).toEqual([]);
  });

  it('knows no Promise between an irq and its ack', () => {
    const path = ['src/operators/', 'src/streams/', 'src/devices/regions.ts', 'src/devices/holders.ts', 'src/devices/software/', 'src/devices/kernel/'];
    const files = sourceFiles().filter((file) => path.some((prefix) => file.startsWith(prefix)));
    expect(files.filter((file) => /\b(await|async |new Promise|firstValueFrom|queueMicrotask)\b/.test(readFileSync(join(root, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')))).toEqual([]);
  });
});
