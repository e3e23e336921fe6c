import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import * as operators from '../../src/operators/index.js';
import * as streams from '../../src/streams/index.js';
import { readPage, rowsOf } from './pages.js';

/** README names every stream and every operator, and says in a line what it is. */

const root = resolve(import.meta.dirname, '../..');
const cells = rowsOf(readPage(join(root, 'README.md'))).flatMap(([name = '', says = '']) => {
  const [, text = '', path = ''] = /^\[`(\w+)`\]\((src\/(?:streams|operators)\/[\w-]+\.ts)\)$/.exec(name) ?? [];
  return text === '' ? [] : [{ name: text, path, says }];
});
const namesIn = (room: string): readonly string[] => cells.filter(({ path }) => path.startsWith(`src/${room}/`)).map(({ name }) => name).sort();

describe('the tables of README', () => {
  it.each([
    ['streams', streams],
    ['operators', operators],
  ])('have all %s, and nothing else', (room, exported) => {
    expect(namesIn(room)).toEqual(Object.keys(exported).sort());
  });

  it.each(cells)('$name: leads to its file, and says what it is', ({ name, path, says }) => {
    expect(path).toBe(`${path.split('/').slice(0, 2).join('/')}/${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}.ts`);
    expect(existsSync(join(root, path))).toBe(true);
    expect(says.length).toBeGreaterThan(10);
  });
});
