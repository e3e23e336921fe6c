import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linksOf, readPage } from './docs/pages.js';
import { nodeOf, noNode, otherNodes } from './support/node-versions.js';

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
let tarball = '';

/** Packed as it would be published, and unpacked beside its dependencies: what a user has, without a network. */
beforeAll(async () => {
  const { stdout } = await run('npm', ['pack', '--json', '--silent', '--pack-destination', folder], { cwd: root });
  const [packed] = JSON.parse(stdout) as readonly Packed[];
  files = packed?.files.map(({ path }) => path) ?? [];
  mkdirSync(installed, { recursive: true });
  tarball = join(folder, packed?.filename ?? '');
  await run('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1']);
  for (const name of ['rxjs', 'tslib', 'fp-ts', 'io-ts', 'koffi', '@koromix', '@types', 'undici-types', 'commander', 'cli-progress', 'string-width', 'strip-ansi', 'ansi-regex', 'emoji-regex', 'is-fullwidth-code-point']) {
    symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name));
  }
}, patienceMs);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A program of a user of the package. Fails as it fails. */
async function user(name: string, program: string, node = process.execPath): Promise<string> {
  const file = join(folder, name);
  writeFileSync(file, program);
  return (await run(node, [file], { cwd: folder })).stdout;
}

/** What a bundler keeps of the package and its dependencies in a program: their folders and files. */
async function bundled(program: string): Promise<readonly string[]> {
  const { metafile } = await build({
    stdin: { contents: program, resolveDir: folder },
    absWorkingDir: folder,
    bundle: true,
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    external: ['rxjs'],
    logLevel: 'silent',
  });
  const kept = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs));
  return kept.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([file]) => file.replace(/^.*node_modules\//, ''));
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

/** What the command says of a software device. */
const conforms = '29 passed, 0 failed, 16 skipped';

const served = /^registered false\n(signal true\n)+(after-transition false\n)?pre-copy\n$/;

const required = `
const { lastValueFrom, firstValueFrom } = require('rxjs');
const { openDevice, remapIrq, remapRegions, softwareDevice, transition } = require('vfio-rx');
firstValueFrom(openDevice(softwareDevice())).then(async (device) => {
  remapIrq(device).pipe(remapRegions(device)).subscribe(({ because, acked }) => console.log(because, acked));
  const { to } = await lastValueFrom(transition(device, 'pre-copy'));
  console.log(to);
  await device.close();
});
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
    for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/devices/linux/syscall-worker.mjs', 'docs/errors.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'SECURITY.md', 'README.md', 'LICENSE', 'drivers/linux/COPYING', 'drivers/linux/vfio_region_remap.h']) {
      expect(files).toContain(path);
    }
    expect(files.filter((path) => /^(src|test|bench)\/|\.map$|\.ko$/.test(path))).toEqual([]);
  });

  it('has what its pages for users lead to; the rest is of the workshop', () => {
    const pages = files.filter((path) => path.endsWith('.md'));
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'docs/guides/8-real-hardware.md', 'examples/README.md', 'CONTRIBUTING.md']));
    const lost = pages.flatMap((page) => linksOf(readPage(join(installed, page))).flatMap((link) => {
      const [path = ''] = decodeURI(link).split('#');
      const target = path === '' ? page : join(dirname(page), path);
      return existsSync(join(installed, target)) ? [] : [target];
    }));
    expect([...new Set(lost)].filter((path) => !/^(src|test|bench)(\/|$)/.test(path))).toEqual([]);
  });

  it('has every entry point', async () => {
    expect(await user('entries.mjs', everyEntry)).toBe('vfio-rx true\nvfio-rx/devices true\nvfio-rx/streams true\nvfio-rx/operators true\nvfio-rx/migration true\nvfio-rx/testing true\nvfio-rx\n');
  }, patienceMs);

  it('serves a remap', async () => {
    expect(await user('remap.mjs', remapOnce)).toMatch(served);
  }, patienceMs);

  it('can be required by CommonJS', async () => {
    expect(await user('remap.cjs', required)).toMatch(served);
  }, patienceMs);

  for (const major of otherNodes) {
    it(`works on node ${major}, from both kinds of modules`, async (ctx) => {
      const why = noNode(major);
      if (why !== undefined) return ctx.skip(why);
      const node = nodeOf(major);
      expect((await run(node, ['--version'])).stdout).toMatch(new RegExp(`^v${major}\\.`));
      expect(await user('remap.mjs', remapOnce, node)).toMatch(served);
      expect(await user('remap.cjs', required, node)).toMatch(served);
      const { stdout } = await run(node, [join(installed, 'dist/cli/main.js'), 'conformance', 'software'], { cwd: folder });
      expect(stdout).toContain(conforms);
    }, patienceMs);
  }

  it('is what publint and attw would have it be', async () => {
    const bin = (name: string) => join(root, 'node_modules', '.bin', name);
    expect((await run(bin('publint'), ['run', tarball, '--strict'], { cwd: folder })).stdout).toContain('All good!');
    // CommonJS takes the ES modules by require(), which node can from 20.19 on; hence there is one build, not two.
    await expect(run(bin('attw'), [tarball, '--profile', 'esm-only'], { cwd: folder })).resolves.toMatchObject({ stderr: '' });
  }, patienceMs);

  it('has no script that an installation would run', async () => {
    const { scripts } = JSON.parse((await run('tar', ['-xzOf', tarball, 'package/package.json'])).stdout) as { scripts: Record<string, string> };
    expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
  });

  it('leaves out of a bundle what is not used', async () => {
    const kept = await bundled(`import { lockstep } from 'vfio-rx/operators';\nconsole.log(lockstep);`);
    expect(kept).toContain('vfio-rx/dist/operators/lockstep.js');
    expect(kept.filter((file) => !/^vfio-rx\/dist\/(operators|errors|clock)/.test(file) && file !== '<stdin>')).toEqual([]);
    expect(await bundled(`import 'vfio-rx';`)).toEqual([]);
  });

  it('brings its command', async () => {
    const { stdout } = await run(process.execPath, [join(installed, 'dist/cli/main.js'), 'conformance', 'software'], { cwd: folder });
    expect(stdout).toContain(conforms);
    expect((await run(process.execPath, [join(installed, 'dist/cli/main.js'), 'demo', '--seconds', '0.5'], { cwd: folder })).stdout).toContain('All is well.');
  }, patienceMs);

  it('brings its types', async () => {
    // The same text as an ES module and as CommonJS.
    const typedFiles = ['typed.mts', 'typed.cts'].map((name) => join(folder, name));
    for (const file of typedFiles) writeFileSync(file, typed);
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,esnext.disposable', '--types', 'node'];
    await expect(run(process.execPath, [tsc, ...options, ...typedFiles], { cwd: folder })).resolves.toMatchObject({ stdout: '' });
  }, patienceMs);
});
