import { describe, expect, it } from 'vitest';
import { formatUs, framesIn } from '../../src/testing/frames.js';
import { parseMarbles, type MarbleUse } from '../../src/testing/marble-parser.js';

/** `frame kind name`, one a mark. */
function read(text: string, use: MarbleUse = 'values'): readonly string[] {
  return parseMarbles(text, use, 'us').map(({ frame, kind, name, failed }) => `${frame} ${kind} ${name}${failed === true ? ' failed' : ''}`);
}

describe('marble strings', () => {
  it('give each sign and each name one frame, and blanks none', () => {
    expect(read('-a <long name>- b|')).toEqual(['1 next a', '2 next long name', '4 next b', '5 complete |']);
    expect(read('🙂-#')).toEqual(['0 next 🙂', '2 error #']);
  });

  it('hold several events in a frame: a list takes one, a group as many as it has signs', () => {
    expect(read('-<a,b,|>')).toEqual(['1 next a', '1 next b', '1 complete |']);
    expect(read('-(a<bb>)c')).toEqual(['1 next a', '1 next bb', '5 next c']);
  });

  it('let time pass between blanks', () => {
    expect(read('a 5us b 1.5ms c 2s |')).toEqual(['0 next a', '6 next b', '1507 next c', '2001508 complete |']);
    expect(read('1-2s')).toEqual(['0 next 1', '2 next 2', '3 next s']);
    expect(framesIn('1.1ms', 'us')).toBe(1100);
    expect(formatUs(1_429_405)).toBe('1.429405s');
  });

  it('have subscriptions and lanes', () => {
    expect(read('-^--!', 'subscription')).toEqual(['1 subscribe ^', '4 unsubscribe !']);
    expect(read('[s-]#<[p,]><q0#>|', 'lane')).toEqual(['0 begin s', '2 end  failed', '3 begin p', '3 end ', '4 next q0 failed', '5 next |']);
  });

  it.each([
    ['-a 5ms|', 'marbles "-a 5ms|", column 3: a duration stands between blanks: "-- 5ms |"'],
    ['0.5us a', 'marbles "0.5us a", column 0: 0.5us is 0.5 frames; one frame is 1us, and frames are whole'],
    ['(a-b)', 'marbles "(a-b)", column 2: no time passes inside a group'],
    ['(a', 'marbles "(a", column 2: the group has no closing ")"'],
    ['a)', 'marbles "a)", column 1: ")" without a "("'],
    ['<a', 'marbles "<a", column 0: "<" without a ">"'],
    ['<a,>', 'marbles "<a,>", column 0: an empty name'],
    ['--!', 'marbles "--!", column 2: "!" belongs into subscription marbles'],
  ])('say what is wrong: %s', (text, message) => {
    expect(() => read(text)).toThrow(message);
  });
});
