import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kinds } from './document.js';
import { unknownNames } from './names.js';
import { pagesOf } from './pages.js';
import { Places } from './places.js';
import { isTyped, play } from './play.js';

/** Every command of README, docs and examples is typed in a fresh clone, and where the package was installed. */

const root = join(import.meta.dirname, '../..');
const pages = pagesOf(root);

/** For a build, and for all commands of one page, on a busy machine, ms. */
const patienceMs = 300_000;

describe('the pages', () => {
  it('have commands that are typed', () => {
    expect(pages.map(({ path }) => path)).toContain('README.md');
    expect(pages.flatMap(({ document }) => document.steps.filter(({ kind }) => kind === 'command')).length).toBeGreaterThan(5);
  });

  it('are written so that all of them can be', () => {
    expect(pages.flatMap(({ path, document }) => document.faults.map((fault) => `${path}:${fault}`))).toEqual([]);
  });

  it('name what there is, also in what cannot be typed here', () => {
    const commands = pages.flatMap(({ path, document }) => document.steps.flatMap((step) => (step.kind === 'file' ? [] : unknownNames(step.command, root).map((why) => `${path}:${step.line}: ${why}`))));
    expect(commands).toEqual([]);
  });
});

describe('the commands', () => {
  let places: Places | undefined;
  beforeAll(async () => { places = await Places.of(root); }, patienceMs);
  afterAll(() => places?.[Symbol.dispose](), patienceMs);

  for (const kind of kinds) {
    for (const { path, document, kinds: where } of pages) {
      if (!where.includes(kind) || !document.steps.some((step) => step.kind === 'command' && isTyped(step, kind))) continue;
      it(`of ${path} do what it says, ${kind === 'clone' ? 'in a clone' : 'where the package is installed'}`, async () => {
        const place = await places?.place(kind, path, document);
        if (place === undefined) throw new Error('there is no place to type them');
        const failures = await play(path, document, kind, place);
        if (failures.length > 0) throw new Error(failures.join('\n\n'));
      }, patienceMs);
    }
  }
});
