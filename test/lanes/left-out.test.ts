import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LEFT_OUT, leftOutLine } from './unit/left-out.mjs';

const root = join(import.meta.dirname, '../..');
const listed = LEFT_OUT.flatMap(({ files }) => files);
const all = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' }).map((name) => `test/${name}`).filter((name) => name.endsWith('.test.ts') && !name.startsWith('test/kernel/'));
const isLeftOut = (file: string): boolean => listed.some((one) => (one.endsWith('/') ? file.startsWith(one) : file === one));

describe('what npm run test:quick leaves out', () => {
  it('is there, and listed once', () => {
    expect(listed.filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(listed.filter((file, at) => listed.some((other, index) => index !== at && file.startsWith(other)))).toEqual([]);
  });

  it('has a reason, which the run says', () => {
    for (const { because } of LEFT_OUT) expect(leftOutLine()).toContain(because);
    expect(new Set(LEFT_OUT.map(({ because }) => because)).size).toBe(LEFT_OUT.length);
  });

  it('is the smaller part', () => {
    expect(all.filter(isLeftOut).length).toBeLessThan(all.length / 3);
  });

  it('has what replaces a module: the files of a quick run share a process', () => {
    const replacing = all.filter((file) => /^\s*vi\.mock\(/m.test(readFileSync(join(root, file), 'utf8')));
    expect(replacing.length).toBeGreaterThan(0);
    expect(replacing.filter((file) => !isLeftOut(file))).toEqual([]);
  });

  it('has what compiles, packs and browses', () => {
    const heavy = all.filter((file) => /from '(esbuild|typescript|playwright-core)'|'npm', \['pack'|chromium\.js'/.test(readFileSync(join(root, file), 'utf8')));
    expect(heavy.length).toBeGreaterThan(3);
    expect(heavy.filter((file) => !isLeftOut(file))).toEqual([]);
  });
});
