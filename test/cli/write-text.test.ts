import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { tryFile, tryOther, writeText } from '../../src/cli/write-text.js';
import { asNobody } from '../support/as-nobody.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-write-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: readonly string[]): string => join(folder, ...names);

it('a file is written, or a typed error names it', () => {
  writeText(at('a'), 'text');
  expect(readFileSync(at('a'), 'utf8')).toBe('text');
  expect(() => writeText(folder, 'text')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS', errno: 'EISDIR', device: folder }) as Error);
});

describe('a file that is to be written', () => {
  it('is tried, and not made', () => {
    const before = readdirSync(folder);
    for (const path of [at('a'), at('new'), 'new', '/dev/null']) expect(() => tryFile(path, 'write')).not.toThrow();
    expect(readdirSync(folder)).toEqual(before);
  });

  it.each([
    [at('no', 'a'), 'there is no such folder: make it, or name another one (ENOENT) [VFIO_E_ADDRESS]'],
    [at('a', 'b'), 'what should be a folder on the way there is a file: name another one (ENOTDIR) [VFIO_E_ADDRESS]'],
    [folder, 'this is a folder: name a file in it (EISDIR) [VFIO_E_ADDRESS]'],
    [`${at('new')}/`, 'this is a folder: name a file in it (EISDIR) [VFIO_E_ADDRESS]'],
    ['', 'there is no such folder: make it, or name another one (ENOENT) [VFIO_E_ADDRESS]'],
    [at('a'.repeat(300)), 'the kernel refused the call (ENAMETOOLONG) [VFIO_E_IO]'],
  ])('%s: says what is in the way', (path, why) => {
    expect(() => tryFile(path, 'write')).toThrow(`${path}: write: ${why}`);
    expect(() => tryFile(path, 'write', { code: 'VFIO_E_JOURNAL' })).toThrow(expect.objectContaining({ code: 'VFIO_E_JOURNAL' }) as Error);
  });

  it('is not this user\'s to write', () => {
    const mine = mkdtempSync(join(tmpdir(), 'vfio-rx-mine-'));
    writeFileSync(join(mine, 'read-only'), '', { mode: 0o444 });
    mkdirSync(join(mine, 'shut'), { mode: 0o500 });
    for (const name of ['read-only', 'shut/new']) {
      expect(() => asNobody(() => tryFile(join(mine, name), 'write'))).toThrow('this user may not write there: name another folder (EACCES) [VFIO_E_PERMISSION]');
    }
    rmSync(mine, { recursive: true });
  });

  it('is to be read, too, on request: then it is a regular file that this user may read', () => {
    const mine = mkdtempSync(join(tmpdir(), 'vfio-rx-mine-'));
    chmodSync(mine, 0o711);
    writeFileSync(join(mine, 'unreadable'), '');
    chmodSync(join(mine, 'unreadable'), 0o222);
    const readBack = true;
    for (const path of [at('a'), at('new')]) expect(() => tryFile(path, 'write', { readBack })).not.toThrow();
    expect(() => asNobody(() => tryFile(join(mine, 'unreadable'), 'write'))).not.toThrow();
    expect(() => asNobody(() => tryFile(join(mine, 'unreadable'), 'write', { readBack }))).toThrow('(EACCES) [VFIO_E_PERMISSION]');
    expect(() => tryFile('/dev/null', 'write', { readBack })).toThrow('/dev/null: write: it is no regular file: name another one [VFIO_E_ADDRESS]');
    rmSync(mine, { recursive: true });
  });

  it('is not one that is read, by whatever name', () => {
    symlinkSync(at('a'), at('link'));
    expect(() => tryOther(at('b'), [at('a')], 'write')).not.toThrow();
    for (const path of [at('a'), at('link'), join(folder, '.', 'no', '..', 'a')]) {
      expect(() => tryOther(path, [at('a')], 'write')).toThrow(expect.objectContaining({ code: 'VFIO_E_ADDRESS' }) as Error);
    }
  });
});
