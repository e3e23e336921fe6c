import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { lastValueFrom } from 'rxjs';
import { afterAll, describe, expect, it } from 'vitest';
import { renderCommand, type DrawOptions } from '../../src/cli/render.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-render-'));
afterAll(() => rmSync(folder, { recursive: true }));

const trace = resolve(import.meta.dirname, '../devices/replay/demanded-remap.jsonl');

async function drawn(options: Partial<DrawOptions> = {}): Promise<string> {
  const written: string[] = [];
  expect(await lastValueFrom(renderCommand({ traces: [trace], form: 'text', color: false, ...options }, (text) => written.push(text)))).toBe(0);
  return written.join('');
}

describe('vfio-rx render', () => {
  it('draws lanes for a terminal, with colours where it is one', async () => {
    const text = await drawn();
    expect(text).toMatch(/^ {2}unmap .*<u0>/m);
    expect(text).not.toContain('\u001b[');
    expect(await drawn({ color: true })).toContain('\u001b[');
  });

  it('draws a picture or a page, here or into a file', async () => {
    const out = join(folder, 'run.html');
    expect(await drawn({ form: 'svg' })).toMatch(/^<svg /);
    expect(await drawn({ form: 'html', out })).toBe('');
    expect(readFileSync(out, 'utf8')).toBe(await drawn({ form: 'html' }));
    await expect(drawn({ out: join(folder, 'no', 'run.txt') })).rejects.toMatchObject({ code: 'VFIO_E_ADDRESS', operation: 'write' });
    const own = join(folder, 'own.jsonl');
    copyFileSync(trace, own);
    await expect(drawn({ traces: [trace, own], out: own })).rejects.toThrow('it would be written over itself');
    expect(readFileSync(own)).toEqual(readFileSync(trace));
  });

  it('draws several on one axis, and says where one was cut off', async () => {
    const cut = join(folder, 'cut.jsonl');
    writeFileSync(cut, readFileSync(trace).subarray(0, 5000));
    const text = await drawn({ traces: [trace, cut] });
    expect(text).toMatch(/: cut off within the line; the \d+ entries before it were read/);
    expect((await drawn({ form: 'svg', traces: [trace, trace] })).split('>unmap<').length).toBe(3);
  });
});
