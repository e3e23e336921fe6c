import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Shell } from './shell.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-shell-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const open = (hidden: readonly string[] = []) => new Shell({ folder, env: { PATH: process.env['PATH'] }, hidden });
/** A bound for a busy machine, ms. */
const patienceMs = 30_000;

describe('Shell', () => {
  it('answers with both streams and the exit code, and stays where it was', async () => {
    await using shell = open();
    expect(await shell.type('mkdir -p in && cd in && x=1', patienceMs)).toEqual({ output: '', code: 0 });
    expect(shell.folder).toBe(join(folder, 'in'));
    expect(await shell.type('echo $x; echo two >&2; false', patienceMs)).toEqual({ output: '1\ntwo\n', code: 1 });
  });

  it('gives a command nothing to read', async () => {
    await using shell = open();
    expect(await shell.type('cat', patienceMs)).toEqual({ output: '', code: 0 });
    expect(await shell.type('echo on', patienceMs)).toEqual({ output: 'on\n', code: 0 });
  });

  it('says when a command has not ended in time, and when the shell has', async () => {
    await using shell = open();
    expect(await shell.type('exit 3', patienceMs)).toEqual({ output: '', code: 3 });
    expect(await shell.type('echo on', patienceMs)).toEqual({ output: '', code: 3 });
    await using stuck = open();
    expect(await stuck.type('read x < <(tail -f /dev/null)', 200)).toBeUndefined();
  });

  it('leaves a command in the background until it is closed', async () => {
    let pid = 0;
    {
      await using shell = open();
      expect(await shell.leave('{ echo begun; tail -f /dev/null; } &', (output) => output !== '', patienceMs)).toBe('begun\n');
      pid = Number((await shell.type('echo $!', patienceMs))?.output);
      expect(process.kill(pid, 0)).toBe(true);
      expect(await shell.leave('tail -f /dev/null &', (output) => output !== '', 100)).toBe('');
    }
    expect(() => process.kill(-pid, 0)).toThrow('ESRCH');
  });

  it('takes the end of a command for its own, also behind one that said nothing in the background', async () => {
    await using shell = open();
    await shell.leave('tail -f /dev/null &', () => true, patienceMs);
    expect(await shell.type('sleep 0.1; echo on', patienceMs)).toEqual({ output: 'on\n', code: 0 });
  });

  it('does not see what is hidden', async (ctx) => {
    const secret = join(folder, 'vfio');
    mkdirSync(secret, { recursive: true });
    writeFileSync(join(secret, '7'), '');
    writeFileSync(join(folder, 'iommu'), 'secret');
    await using shell = open([secret, join(folder, 'iommu'), join(folder, 'is-not-there')]);
    const answer = await shell.type(`ls ${secret}; cat ${folder}/iommu; ls -d ${folder}/is-not-there`, patienceMs);
    if (answer?.code === 1 && answer.output === '') return ctx.skip('this user may not mount anything, in a namespace of its own either');
    expect(answer?.output).toMatch(/^ls: .*No such file or directory\n$/);
  });
});
