import { execFile } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import * as library from '../src/index.js';

const root = resolve(import.meta.dirname, '..');
/** In the tree itself: a cache may be a link to another place, where neither src nor packages are found. */
const folder = join(root, '.samples');

/** For a compiler and a process on a busy machine, ms. */
const patienceMs = 120_000;

/** The TypeScript samples of a page that can be run: those with imports. Written to files that import src instead of the package. */
function samplesOf(page: string): readonly string[] {
  const text = readFileSync(join(root, page), 'utf8');
  const samples = [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, sample = '']) => sample).filter((sample) => sample.startsWith('import '));
  mkdirSync(folder, { recursive: true });
  return samples.map((sample, index) => {
    const file = join(folder, `${page.replaceAll(/\W/g, '-')}-${index}.ts`);
    const sources = sample.replaceAll("'vfio-rx'", "'../src/index.js'").replaceAll("'vfio-rx/testing'", "'../src/testing/index.js'");
    writeFileSync(file, onSoftware(sources));
    return file;
  });
}

/** The programs that a page names in their first line, each in its file, as test/typed runs them. */
function programsOf(page: string): readonly string[] {
  const own = join(folder, page.replaceAll(/\W/g, '-'));
  mkdirSync(own, { recursive: true });
  return [...readFileSync(join(root, page), 'utf8').matchAll(/^```ts\n(\/\/ (\S+\.ts)\n[\s\S]*?)^```$/gm)].map(([, text = '', name = '']) => {
    writeFileSync(join(own, name), text.replaceAll("'vfio-rx'", "'../../src/index.js'").replaceAll("'vfio-rx/testing'", "'../../src/testing/index.js'"));
    return join(own, name);
  });
}

/** A real device's address becomes a software device. */
function onSoftware(sample: string): string {
  const opened = sample.replace(/openDevice\('[^']+'\)/, 'openDevice(softwareDevice())');
  return opened === sample ? sample : `import { softwareDevice } from '../src/index.js';\n${opened}`;
}

/** The `@example` of every operator and stream, with the names of the library and a `device` in scope. */
function examplesOf(room: string): readonly string[] {
  mkdirSync(folder, { recursive: true });
  return readdirSync(join(root, room)).filter((name) => name !== 'index.ts').map((name) => {
    const [, example = 'there is no example'] = / \* @example\n([\s\S]*?)\n \* @see/.exec(readFileSync(join(root, room, name), 'utf8')) ?? [];
    const file = join(folder, `example-${name}`);
    const scope = `import { ${Object.keys(library).join(', ')} } from '../src/index.js';\ndeclare const device: VfioDevice;\n`;
    writeFileSync(file, scope + example.replaceAll(/^ \* ?/gm, ''));
    return file;
  });
}

/** What the compiler of this project says of each file. */
function complaints(files: readonly string[]): readonly (readonly string[])[] {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as { config: { compilerOptions: object } };
  const { options } = ts.convertCompilerOptionsFromJson({ ...config.compilerOptions, noUnusedLocals: false }, root);
  const compiled = ts.createProgram(files, options);
  return files.map((file) => ts.getPreEmitDiagnostics(compiled, compiled.getSourceFile(file)).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')));
}

const [program = '', marbleTest = '', ...more] = samplesOf('README.md');
const guide = samplesOf('docs/marbles.md');
const dma = samplesOf('docs/dma.md');
const traces = samplesOf('docs/traces.md');
const devices = samplesOf('docs/write-a-device.md');
const guides = ['README.md', ...readdirSync(join(root, 'docs/guides')).map((name) => `docs/guides/${name}`)].flatMap(programsOf);
const examples = ['src/operators', 'src/streams'].flatMap(examplesOf);

describe('the samples of README, of the guides and of doc comments', () => {
  it('are all here', () => {
    expect([program, marbleTest].every((file) => file !== '')).toBe(true);
    expect([more.length, guide.length, dma.length, traces.length, devices.length]).toEqual([0, 1, 2, 4, 1]);
    expect(examples.length).toBeGreaterThan(10);
    expect(guides.length).toBeGreaterThan(20);
  });

  it('compile, and one that does not would be seen', () => {
    const broken = join(folder, 'broken.ts');
    writeFileSync(broken, readFileSync(program, 'utf8').replace('tookNs', 'tookMs'));
    const [ofBroken, ...ofOthers] = complaints([broken, program, marbleTest, ...guide, ...dma, ...traces, ...devices, ...guides, ...examples]);
    expect(ofBroken).toContain("Property 'tookMs' does not exist on type 'Arc'.");
    expect(ofOthers.flat()).toEqual([]);
  }, patienceMs);

  it('serve a real program to its end', async () => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--import', 'tsx', program], { cwd: root });
    expect(stdout).toMatch(/^batch 0 seen after \d+ ns\nbatch 1 acked after \d+ ns\n(batch \d+ \w+ after \d+ ns\n)*saving after \d+ ns\n$/);
    expect(stderr).toBe('');
  }, patienceMs);

  it('do DMA on a software device', async () => {
    const outputs = [];
    for (const sample of dma) outputs.push((await promisify(execFile)(process.execPath, ['--import', 'tsx', sample], { cwd: root })).stdout);
    expect(outputs).toEqual(['the device reads that at 0x100000\n', '[]\n']);
  }, patienceMs);

  // Their own it() are tests of this file.
  describe('run', async () => {
    for (const file of [marbleTest, ...guide]) await import(/* @vite-ignore */ pathToFileURL(file).href);
  });
});
