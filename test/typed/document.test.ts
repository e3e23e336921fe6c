import { describe, expect, it } from 'vitest';
import { documentOf } from './document.js';

const page = (...lines: readonly string[]) => documentOf(lines.join('\n'));

describe('documentOf', () => {
  it('finds programs, commands and what comes back, in the order of the page', () => {
    expect(page('# A page', '', '```ts', '// first.ts', "import 'rxjs';", '```', 'Then', '```sh', '$ node first.ts', 'one', '', 'two', '', '$ ls', '```').steps).toEqual([
      { kind: 'file', line: 3, name: 'first.ts', text: "// first.ts\nimport 'rxjs';\n" },
      { kind: 'command', line: 9, command: 'node first.ts', wanted: ['one', '', 'two'] },
      { kind: 'command', line: 14, command: 'ls', wanted: [] },
    ]);
  });

  it('takes a line that ends in \\ and the next for one command', () => {
    expect(page('```sh', '$ echo a \\', '    b', 'a b', '```').steps).toEqual([{ kind: 'command', line: 2, command: 'echo a \\\n    b', wanted: ['a b'] }]);
  });

  it('types a block where it says, and only names what cannot be typed', () => {
    expect(page('```sh clone', '$ npm start', '```', '```sh real-device', '$ vfio-rx list', '```', '```sh not-typed: it boots Linux', '$ npm test', '```').steps).toEqual([
      { kind: 'command', line: 2, command: 'npm start', wanted: [], only: 'clone' },
      { kind: 'named', line: 5, command: 'vfio-rx list', because: 'it needs a device' },
      { kind: 'named', line: 8, command: 'npm test', because: 'it boots Linux' },
    ]);
  });

  it('reads blocks of lists without their indentation, and lets pass those of other languages and snippets without a name', () => {
    expect(page('- a', '', '  ```sh', '  $ ls', '    a', '', '  ```', '```ts', "import 'x';", '```', '```json', '{}', '```').steps).toEqual([{ kind: 'command', line: 4, command: 'ls', wanted: ['  a'] }]);
  });

  it.each([
    ['a command in a block without a language', ['```', 'npx vfio-rx demo', '```'], /^2: a command stands in a block that nothing types/],
    ['output without a command', ['```sh', 'hello', '$ ls', '```'], /^2: a block of commands begins with/],
    ['an empty block', ['```sh', '```'], /^2: a block of commands begins with/],
    ['a mark that is none', ['```sh not-typed', '$ ls', '```'], /^1: "sh not-typed" is none of sh, sh clone,/],
  ])('finds fault with %s', (_, lines, fault) => {
    expect(page(...lines).faults).toEqual([expect.stringMatching(fault)]);
  });

  it('finds none with what is only shown', () => {
    expect(page('```', 'driver  ---1--', '```', '```marbles name', 'a', '```').faults).toEqual([]);
  });
});
