import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { departure, difference, linesOf } from './compare.js';

describe('departure', () => {
  it.each([
    ['the same', ['a', 'b'], ['a', 'b']],
    ['nothing', [], []],
    ['any text within a line', ['batch … acked after … ns'], ['batch 1 acked after 20 ns']],
    ['any lines', ['a', '…', 'z'], ['a', 'b', 'c', 'z']],
    ['no line either', ['a', '…', 'z'], ['a', 'z']],
    ['a line that comes twice, of which the second is meant', ['…', 'a', 'end'], ['a', 'b', 'a', 'end']],
    ['what a pattern would take for its own', ['(a|b) [c] $1.'], ['(a|b) [c] $1.']],
  ])('lets pass %s', (_, wanted, got) => expect(departure(wanted, got)).toBeUndefined());

  it.each([
    ['another line', ['a', 'b'], ['a', 'c'], { said: 1, came: 1 }],
    ['a line too few', ['a', 'b'], ['a'], { said: 1, came: 1 }],
    ['a line too many', ['a'], ['a', 'b'], { said: 1, came: 1 }],
    ['something where nothing should be', [], ['a'], { said: 0, came: 0 }],
    ['a line behind … that never comes', ['a', '…', 'z'], ['a', 'b', 'c'], { said: 2, came: 1 }],
    ['lines in another order', ['…', 'b', '…', 'a'], ['a', 'b'], { said: 3, came: 2 }],
    ['text that a dot would take', ['1.5'], ['125'], { said: 0, came: 0 }],
  ])('sees %s', (_, wanted, got, where) => expect(departure(wanted, got)).toEqual(where));

  it('lets pass whatever becomes a … of any output, and sees a line that is in none', () => {
    fc.assert(fc.property(fc.array(fc.tuple(fc.constantFrom('a', 'b', 'ab', ''), fc.constantFrom('keep', 'any', 'part'))), (lines) => {
      const got = lines.map(([text]) => text);
      const wanted = lines.map(([text, how]) => (how === 'keep' ? text : how === 'any' ? '…' : `${text.slice(0, 1)}…`));
      expect(departure(wanted, got)).toBeUndefined();
      expect(departure([...wanted, 'z'], got)).toBeDefined();
      expect(departure(wanted, ['z', ...got]) === undefined).toBe(wanted[0] === '…' || (wanted.length > 0 && departure(wanted.slice(0, 1), ['z']) === undefined && departure(wanted.slice(1), got) === undefined));
    }));
  });
});

describe('linesOf', () => {
  it('has neither colours, nor the ends of lines, nor empty lines at the edges', () => {
    expect(linesOf('\n\u001b[31mred\u001b[0m  \r\n\n  b\n\n')).toEqual(['red', '', '  b']);
  });
});

describe('difference', () => {
  it('shows both, and where they part', () => {
    expect(difference(['a', 'b'], ['a', 'c'])).toBe('  the document says\n      a\n    > b\n  what came back\n      a\n    > c');
    expect(difference(['a'], [])).toBe('  the document says\n    > a\n  what came back: nothing');
    expect(difference([], ['a'])).toBe('  the document says that nothing comes back\n  what came back\n    > a');
    expect(difference(['a'], ['a'])).toBeUndefined();
  });

  it('shows of a long answer what is around the line', () => {
    const many = Array.from({ length: 100 }, (_, n) => `line ${n}`);
    expect(difference([...many.slice(0, 50), 'other'], many)?.split('\n').length).toBeLessThan(50);
    expect(difference([...many.slice(0, 50), 'other'], many)).toContain('    > line 50\n');
  });
});
