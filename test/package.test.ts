import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const run = promisify(execFile);
const root = resolve(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-package-'));
const installed = join(folder, 'node_modules', 'vfio-rx');

/** Building and packing on a busy machine, ms. */
const patienceMs = 120_000;

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

let files: readonly string[] = [];

/** Packed as it would be published, and unpacked beside its dependencies: what a user has, without a network. */
beforeAll(async () => {
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: root });
  const [packed] = JSON.parse(stdout) as readonly Packed[];
  files = packed?.files.map(({ path }) => path) ?? [];
  mkdirSync(installed, { recursive: true });
  await run('tar', ['-xzf', join(folder, packed?.filename ?? ''), '-C', installed, '--strip-components=1']);
  for (const name of ['rxjs', 'tslib', 'fp-ts', 'io-ts', 'koffi', '@koromix', '@types', 'undici-types', 'commander', 'cli-progress', 'string-width', 'strip-ansi', 'ansi-regex', 'emoji-regex', 'is-fullwidth-code-point']) {
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
}, patienceMs);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A program of a user of the package. Fails as it fails. */
async function user(name: string, program: string): Promise<string> {
  const file = join(folder, name);
  writeFileSync(file, program);
  return (await run(process.execPath, [file], { cwd: folder })).stdout;
}

const remapOnce = `
import { lastValueFrom, firstValueFrom } from 'rxjs';
import { openDevice, remapIrq, remapRegions, softwareDevice, transition } from 'vfio-rx';
const device = await firstValueFrom(openDevice(softwareDevice()));
remapIrq(device).pipe(remapRegions(device)).subscribe(({ because, acked }) => console.log(because, acked));
const { to } = await lastValueFrom(transition(device, 'pre-copy'));
console.log(to);
await device.close();
`;

const everyEntry = `
for (const entry of ['vfio-rx', 'vfio-rx/devices', 'vfio-rx/streams', 'vfio-rx/operators', 'vfio-rx/migration', 'vfio-rx/testing']) {
  console.log(entry, Object.keys(await import(entry)).length > 0);
}
console.log((await import('vfio-rx/package.json', { with: { type: 'json' } })).default.name);
`;

const typed = `
import { lastValueFrom } from 'rxjs';
import { openDevice, softwareDevice, type VfioDevice } from 'vfio-rx';
import { marbles } from 'vfio-rx/testing';
export const device: Promise<VfioDevice> = lastValueFrom(openDevice(softwareDevice()));
// @ts-expect-error a device is not a number: the types are there, and not any
export const wrong: Promise<number> = device;
marbles((t) => t.expect(t.cold('|')).toBe('|'));
`;

describe('the package', () => {
  it('has a command that can be run from a clone too', () => {
    expect(statSync(join(root, 'dist/cli/main.js')).mode & 0o111).toBe(0o111);
  });

  it('has what it needs and nothing of the workshop', () => {
    for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/devices/linux/syscall-worker.mjs', 'docs/errors.md', 'ARCHITECTURE.md', 'README.md', 'LICENSE', 'drivers/linux/COPYING', 'drivers/linux/vfio_region_remap.h']) {
      expect(files).toContain(path);
    }
    expect(files.filter((path) => /^(src|test|examples|bench)\/|\.map$|\.ko$/.test(path))).toEqual([]);
  });

  it('has every entry point', async () => {
    expect(await user('entries.mjs', everyEntry)).toBe('vfio-rx true\nvfio-rx/devices true\nvfio-rx/streams true\nvfio-rx/operators true\nvfio-rx/migration true\nvfio-rx/testing true\nvfio-rx\n');
  }, patienceMs);

  it('serves a remap', async () => {
    expect(await user('remap.mjs', remapOnce)).toMatch(/^registered false\n(signal true\n)+(after-transition false\n)?pre-copy\n$/);
  }, patienceMs);

  it('brings its command', async () => {
    const { stdout } = await run(process.execPath, [join(installed, 'dist/cli/main.js'), 'conformance', 'software'], { cwd: folder });
    expect(stdout).toContain('12 passed, 0 failed, 2 skipped');
  }, patienceMs);

  it('brings its types', async () => {
    const file = join(folder, 'typed.mts');
    writeFileSync(file, typed);
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,esnext.disposable', '--types', 'node'];
    await expect(run(process.execPath, [tsc, ...options, file], { cwd: folder })).resolves.toMatchObject({ stdout: '' });
  }, patienceMs);
});
