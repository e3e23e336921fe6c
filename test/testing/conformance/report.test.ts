import { describe, expect, it } from 'vitest';
import { junitOf, linesOf, type RuleResult } from '../../../src/testing/index.js';

const results: readonly RuleResult[] = [
  { rule: 'X-1', title: 'is even', outcome: 'passed' },
  { rule: 'X-2', title: 'is "odd" & <small>', outcome: 'failed', reason: '4 > 3\nand\u0007 more', error: new Error('4 > 3') },
  { rule: 'X-3', title: 'is lucky', outcome: 'skipped', reason: 'there is none' },
];

describe('the report of a suite', () => {
  it('is lines, and a last one that counts', () => {
    expect(linesOf(results)).toEqual([
      'passed  X-1: is even',
      'failed  X-2: is "odd" & <small> (4 > 3\nand\u0007 more)',
      'skipped X-3: is lucky (there is none)',
      '1 passed, 1 failed, 1 skipped',
    ]);
  });

  it('is JUnit XML, whatever stands in it', () => {
    expect(junitOf('a "suite"', results)).toBe(`<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="a &quot;suite&quot;" tests="3" failures="1" skipped="1">
  <testcase classname="a &quot;suite&quot;" name="X-1: is even"/>
  <testcase classname="a &quot;suite&quot;" name="X-2: is &quot;odd&quot; &amp; &lt;small&gt;"><failure message="4 &gt; 3&#10;and\ufffd more"/></testcase>
  <testcase classname="a &quot;suite&quot;" name="X-3: is lucky"><skipped message="there is none"/></testcase>
</testsuite>
`);
  });
});
