import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { diagramLength, rottenRows } from './support/diagrams.js';

const root = resolve(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** A diagram shows what its test shows: the same events in the same frames, whatever they are called. */
describe('the diagram of a doc comment', () => {
  for (const room of ['operators', 'streams']) {
    for (const name of readdirSync(join(root, 'src', room)).filter((one) => one !== 'index.ts')) {
      it(`of ${name} is that of its test`, () => {
        const doc = read(`src/${room}/${name}`);
        expect(diagramLength(doc)).toBeGreaterThan(1);
        expect(rottenRows(doc, read(`test/${room}/${name.replace('.ts', '.test.ts')}`))).toEqual([]);
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
});
