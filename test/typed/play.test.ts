import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { documentOf, type Kind } from './document.js';
import { play } from './play.js';

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-play-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const played = (lines: readonly string[], kind: Kind = 'clone') => play('docs/a.md', documentOf(lines.join('\n')), kind, { folder, env: { PATH: process.env['PATH'] } });

describe('play', () => {
  it('says nothing of a document that is true', async () => {
    expect(await played(['```js', '// of/a.mjs', 'console.log(6 * 7);', '```', '```sh', '$ node of/a.mjs', '42', '$ cd of', '```', '```js', '// b.mjs', "import './a.mjs';", '```', '```sh', '$ node b.mjs', '42', '```'])).toEqual([]);
  });

  it('says page, line, command and both texts of what is not, and goes on', async () => {
    expect(await played(['```sh', '$ echo one', 'two', '$ echo three', '```'])).toEqual([
      'docs/a.md:2: $ echo one\n  the document says\n    > two\n  what came back\n    > one\n  exit code 0',
      'docs/a.md:4: $ echo three\n  the document says that nothing comes back\n  what came back\n    > three\n  exit code 0',
    ]);
  });

  it('wants a failure to be shown', async () => {
    expect(await played(['```sh', '$ echo no; false', 'no', '$ (exit 3)', '$ echo no; false', '…', '```'])).toEqual([
      expect.stringMatching(/^docs\/a.md:4: \$ \(exit 3\)\n {2}failed with exit code 3/),
      expect.stringMatching(/^docs\/a.md:5: .*\n {2}failed with exit code 1, and the document says nothing of it:\n {4}no/),
    ]);
  });

  it('waits for what something in the background says first', async () => {
    expect(await played(['```sh', '$ { echo listening; echo more; tail -f /dev/null; } &', 'listening', '$ echo on', 'on', '```'])).toEqual([]);
  });

  it('types nothing elsewhere, nor what is only named', async () => {
    const lines = ['```sh installed', '$ echo one', '```', '```sh', '$ npm install vfio-rx', '```', '```sh real-device', '$ echo two', '```'];
    expect(await played(lines)).toEqual([]);
    expect(await played(lines.slice(0, 3), 'installed')).toHaveLength(1);
  });
});
