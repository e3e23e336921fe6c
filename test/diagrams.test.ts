import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { diagramLength, drawnAnew, rottenRows } from './support/diagrams.js';

const root = resolve(import.meta.dirname, '..');
/** `npm run diagrams` draws them anew. */
const draw = process.env['VFIO_RX_DIAGRAMS'] === 'draw';
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** A diagram shows what its test shows: the same events in the same frames, whatever they are called. */
describe('the diagram of a doc comment', () => {
  for (const room of ['operators', 'streams']) {
    for (const name of readdirSync(join(root, 'src', room)).filter((one) => one !== 'index.ts')) {
      it(`of ${name} is that of its test`, () => {
        const path = `src/${room}/${name}`;
        const test = read(`test/${room}/${name.replace('.ts', '.test.ts')}`);
        if (draw) writeFileSync(join(root, path), drawnAnew(read(path), test));
        expect(diagramLength(read(path))).toBeGreaterThan(1);
        expect(rottenRows(read(path), test), 'rows that no marbles of the test show: npm run diagrams draws them anew').toEqual([]);
      });
    }
  }

  const test = `it('is its diagram', () => { t.expect(x).toBe('--a <b,c> -|', { a: 'no marbles' }); });\nit('another', () => y('------z'));`;
  const doc = (row: string): string => `/**\n * \`\`\`\n * source  ${row}\n * \`\`\`\n */`;
  it.each([
    ['as it is', '--a <b,c> -|', true],
    ['with other names, blanks and a comment', '--x(yz)-|     what it is', false],
    ['with other names and a comment', '--x<y,z>-|    what it is', true],
    ['a frame late', '---a<b,c>-|', false],
    ['one event less', '--a   b   -|', false],
    ['without its first event', '--- <b,c> -|', false],
    ['another end', '--a <b,c> -#', false],
    ['of another test', '------z', false],
    ['nothing', '----------', false],
  ])('is seen to be its test\'s, or not: %s', (_, row, same) => {
    expect(rottenRows(doc(row), test).length === 0).toBe(same);
  });

  describe('is drawn anew from its test', () => {
    const rows = (...lines: readonly string[]): string => `/**\n * \`\`\`\n${lines.map((line) => ` * ${line}\n`).join('')} * \`\`\`\n */`;
    const tested = (...texts: readonly string[]): string => `it('is its diagram', () => { ${texts.map((text) => `t.expect(x).toBe('${text}');`).join(' ')} });`;

    it.each([
      ['the frames are the test\'s, names and words stay', ['source  --a--b-|', 'out     --r--s-|     r: what came of a'], ['--a---b|', '--1---2|'], ['source  --a---b|', 'out     --r---s|     r: what came of a']],
      ['one event more', ['source  --a-|', 'out     ---r|'], ['--a-|', '--1-2|'], ['source  --a-|', 'out     --1-2|']],
      ['durations stay durations', ['source  - 5ms a', 'out     - 5ms r'], ['- 7ms a', '- 7ms 1'], ['source  - 7ms a', 'out     - 7ms r']],
      ['what is right is left as it is', ['source  -- a-|', 'out     -- r-|'], ['--a-|'], ['source  -- a-|', 'out     -- r-|']],
      ['what cannot be told is left for a person', ['source  --a-|', 'out     ---r|'], ['--a-|', '-a', '--b'], ['source  --a-|', 'out     ---r|']],
    ])('%s', (_, before, test, after) => {
      expect(drawnAnew(rows(...before), tested(...test))).toBe(rows(...after));
    });
  });
});
