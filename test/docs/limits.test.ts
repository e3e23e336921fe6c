import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { defaultDeadlines } from '../../src/migration/plan.js';
import { readPage, rowsOf } from './pages.js';

/** What docs/limits.md says of a limit is what stands in the sources, of exported and of private ones alike. */

const root = resolve(import.meta.dirname, '../..');
const rows = rowsOf(readPage(join(root, 'docs/limits.md')));
const named = rows.flatMap(([what = '', name = '', value = '']) => {
  const [, limit = '', folder = ''] = /^\[`(\w+)`\]\(\.\.\/(src[\w/-]*)\)$/.exec(name) ?? [];
  return limit === '' ? [] : [{ what, limit, folder, value }];
});

const units: Readonly<Record<string, number>> = { '': 1, bytes: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };
const nsOf: Readonly<Record<string, number>> = { us: 1e3, ms: 1e6, s: 1e9 };
const nsOfSuffix: Readonly<Record<string, number>> = { Ns: 1, Us: 1e3, Ms: 1e6 };

/** `10 s` of a name in ms is 10,000, `64 KiB` is 65,536. */
function numberOf(value: string, limit: string): number {
  const [, digits = '', unit = ''] = /^([\d,.]+)(?: (\w+))?$/.exec(value) ?? [];
  const suffix = nsOfSuffix[limit.slice(-2)];
  const factor = suffix === undefined || nsOf[unit] === undefined ? units[unit] : nsOf[unit] / suffix;
  if (digits === '' || factor === undefined) throw new Error(`"${value}" is no value`);
  return Number(digits.replaceAll(',', '')) * factor;
}

/** What the name is set to in the folder and its rooms: a constant, a default of an option, a field of defaults. */
function valuesOf(folder: string, limit: string): readonly number[] {
  const sources = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => readFileSync(join(root, folder, name), 'utf8'));
  const set = new RegExp(`(?:\\bconst ${limit} =|[{,] ${limit}(?:: \\w+)? =|\\b${limit} \\?\\?|[{,] ${limit}:) ([\\d_][\\d_n]*(?: (?:\\*\\*|<<|[*+-]) [\\d_]+n?)*)(?=[;,)} ]|$)`, 'gm');
  return sources.flatMap((source) => [...source.matchAll(set)].map(([, text = '']) => calculated(text)));
}

/** `64 * 2 ** 20`, `1 << 20`: numbers and what is between them, nothing else. */
function calculated(text: string): number {
  const [first = '', ...rest] = text.replaceAll(/[_n]/g, '').replaceAll(/(\d+) \*\* (\d+)/g, (_, base: string, exponent: string) => String(Number(base) ** Number(exponent))).split(' ');
  let value = Number(first);
  for (let at = 0; at < rest.length; at += 2) {
    const operand = Number(rest[at + 1]);
    if (rest[at] === '*') value *= operand;
    else if (rest[at] === '<<') value *= 2 ** operand;
    else value += rest[at] === '+' ? operand : -operand;
  }
  return value;
}

/** Bounds that nobody meets from outside: of what is drawn, of what other bounds keep smaller, of what a kernel or a protocol counts, of memory that is reused. */
const inside = [
  'maxIndexes', 'maxLoggedRanges', 'maxMessageBytes', 'maxSkipped', 'maxWaits', 'mostArgsz', 'mostAsks', 'mostFdsAtOnce', 'mostGathered', 'mostIrqCalls', 'mostPieces', 'mostRanges', 'mostRangeBytes', 'mostSpares',
];

describe('docs/limits.md', () => {
  it('leaves out no bound that a user can meet', () => {
    const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => readFileSync(join(root, 'src', name), 'utf8'));
    const bounds = new Set(sources.flatMap((source) => [...source.matchAll(/^(?:export )?const ((?:most|max)[A-Z]\w*)/gm)].map(([, name = '']) => name)));
    const said = [...inside, ...named.map(({ limit }) => limit)];
    expect([...bounds].filter((name) => !said.includes(name))).toEqual([]);
  });

  it('names what can be compared', () => {
    expect(named.length).toBeGreaterThan(50);
  });

  it.each(named)('$limit in $folder: $value', ({ what, limit, folder, value }) => {
    expect(what).not.toBe('');
    expect([...new Set(valuesOf(folder, limit))]).toContain(numberOf(value, limit));
  });

  it('has the deadlines of a migration', () => {
    const phases = rows.flatMap(([phase = '', most = '']) => (/^`[a-z-]+`$/.test(phase) ? [[phase.replaceAll('`', ''), numberOf(most, 'Ms')]] : []));
    expect(Object.fromEntries(phases)).toEqual(defaultDeadlines);
  });

  it('sees another value', () => {
    expect(valuesOf('src/devices/vfio-user', 'mostStateCalls')).toEqual([16]);
    expect(valuesOf('src/wire', 'mostDataBytes')).toEqual([2 ** 20]);
    expect([numberOf('10 s', 'closeBoundMs'), numberOf('250 us', 'turnNs'), numberOf('1 MiB', 'mostBytes'), calculated('64 * 2 ** 20'), calculated('250_000n')]).toEqual([10_000, 250_000, 2 ** 20, 2 ** 26, 250_000]);
  });
});
