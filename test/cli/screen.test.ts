import { PassThrough } from 'node:stream';
import { WriteStream } from 'node:tty';
import { expect, it } from 'vitest';
import { screenOf } from '../../src/cli/screen.js';

const terminal = Object.assign(new PassThrough(), { isTTY: true, hasColors: (env?: object) => WriteStream.prototype.hasColors(env) });

it.each([
  ['a terminal', { TERM: 'xterm-256color' }, true, true],
  ['one whose user wants no colours', { TERM: 'xterm-256color', NO_COLOR: '1' }, true, false],
  ['a dumb one', { TERM: 'dumb' }, false, false],
])('%s has a table and colours where it can have them', (_, env, table, color) => {
  const screen = screenOf(terminal, env);
  expect([screen.terminal === terminal, screen.color]).toEqual([table, color]);
});

it('what is no terminal has neither', () => {
  const file = new PassThrough();
  const { terminal: none, color, write } = screenOf(file, { TERM: 'xterm-256color' });
  write('text');
  expect([none, color, String(file.read())]).toEqual([undefined, false, 'text']);
});
