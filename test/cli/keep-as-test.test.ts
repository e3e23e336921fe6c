import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { lastValueFrom, NEVER } from 'rxjs';
import ts from 'typescript';
import { afterAll, describe, expect, it } from 'vitest';
import { keepAsTest, testText } from '../../src/cli/keep-as-test.js';
import { recordCommand } from '../../src/cli/record.js';

const root = resolve(import.meta.dirname, '../..');
mkdirSync(join(root, '.cache'), { recursive: true });
const folder = mkdtempSync(join(root, '.cache', 'kept-'));
afterAll(() => rmSync(folder, { recursive: true }));

const screen = { write: () => undefined, json: false };
const trace = join(folder, 'run.jsonl');
const test = join(folder, 'kept.test.ts');
const vitest = join(root, 'node_modules/vitest/vitest.mjs');

/** A process on a busy machine, ms. */
const patienceMs = 120_000;

/** As a user runs it, beside whatever runs here. */
async function ran(file: string): Promise<string> {
  writeFileSync(join(folder, 'vitest.config.ts'), `export default { resolve: { alias: { 'vfio-rx/testing': ${JSON.stringify(join(root, 'src/testing/index.ts'))} } } };`);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [vitest, 'run', file, '--root', folder], { cwd: folder, env: { ...process.env, NO_COLOR: '1' } }).catch((failed: unknown) => failed as { stdout: string; stderr: string });
  return stdout + stderr;
}

describe('record --test', () => {
  it('writes a test that is green, and red once the pipeline or the recording is another', async () => {
    const code = await lastValueFrom(recordCommand({ device: 'software', out: trace, states: ['pre-copy', 'stop-copy', 'running'], test }, screen, NEVER));
    expect(code).toBe(0);
    expect(await ran(test)).toMatch(/Tests +1 passed/);

    const changed = join(folder, 'changed.test.ts');
    writeFileSync(changed, readFileSync(test, 'utf8').replace("states: ['pre-copy', 'stop-copy', 'running']", "states: ['stop-copy', 'running']"));
    expect(await ran(changed)).toMatch(/expected setState \{"to":"pre-copy"\}; actual setState \{"to":"stop-copy"\}/);
  }, patienceMs);

  it('is not written of a trace that is not whole', () => {
    const cut = join(folder, 'cut.jsonl');
    writeFileSync(cut, readFileSync(trace).subarray(0, 2000));
    expect(() => keepAsTest(cut, join(folder, 'cut.test.ts'), screen)).toThrow(expect.objectContaining({ code: 'VFIO_E_TRACE' }) as Error);
  });

  it('is a program whatever the names are', () => {
    const names = ["it's", 'a`${b}', '\u2028', 'x\n*/', '\\', 'plain'];
    const text = testText(names[0] ?? '', names.join(''), { forMs: 5 }, names);
    const source = ts.createSourceFile('kept.ts', text, ts.ScriptTarget.ESNext, true);
    const strings: string[] = [];
    const visit = (node: ts.Node): void => {
      if (ts.isStringLiteral(node)) strings.push(node.text);
      ts.forEachChild(node, visit);
    };
    visit(source);
    expect((source as unknown as { parseDiagnostics: readonly unknown[] }).parseDiagnostics).toEqual([]);
    expect(strings.slice(-names.length)).toEqual(names);
    expect(strings).toContain(`does what ${names.join('')} was recorded to do`);
  });
});
