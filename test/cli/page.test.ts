import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { NEVER } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { workOf } from '../../src/cli/program.js';

/** docs/cli.md says what the commands say of themselves: who changes an option or an exit code changes both. */

const page = readFileSync(join(resolve(import.meta.dirname, '../..'), 'docs/cli.md'), 'utf8');

function help(...args: readonly string[]): string {
  const written: string[] = [];
  // Help is written, and ends by an error of commander.
  expect(() => workOf([...args, '--help'], { write: (text) => written.push(text) }, NEVER)).toThrow();
  return written.join('');
}

const commands = [...help().matchAll(/^ {2}([a-z]+) (?:\[options\]|<)/gm)].map(([, name = '']) => name);
const section = (name: string): string => new RegExp(`^## ${name}\n([\\s\\S]*?)(?=^## |(?![\\s\\S]))`, 'm').exec(page)?.[1] ?? '';
const sorted = (all: Iterable<string>): readonly string[] => [...new Set(all)].sort();

describe('docs/cli.md', () => {
  it('has a section for each command, and leads to each', () => {
    expect(commands.length).toBeGreaterThan(9);
    expect(sorted([...page.matchAll(/^## ([a-z]+)$/gm)].map(([, name = '']) => name))).toEqual(sorted(commands));
    expect(sorted([...page.matchAll(/\[`([a-z]+)`\]\(#\1\)/g)].map(([, name = '']) => name))).toEqual(sorted(commands));
  });

  it.each(commands)('%s: has its options, its arguments and what it ends with', (name) => {
    const said = help(name);
    const [usage = ''] = said.split('\n');
    const options = [...said.matchAll(/^ {2}(?:-\w, )?(--[a-z-]+(?: <[A-Z0-9]+(?=\.{0,3}>))?)/gm)].map(([, option = '']) => option).filter((option) => option !== '--help');
    const described = [...section(name).matchAll(/`(--[a-z-]+(?: <[A-Z0-9]+)?)>?`/g)].map(([, option = '']) => option);
    expect(sorted(described)).toEqual(sorted(options));
    for (const [, argument = ''] of usage.replace(/^.*\[options\]/, '').matchAll(/([A-Z]+)/g)) expect(`${section(name)}${page.slice(0, page.indexOf('\n## list'))}`).toContain(argument);
    expect(section(name)).toContain(/^Ends with .*$/m.exec(said)?.[0] ?? 'what it ends with');
  });
});
