import { concat, NEVER, of } from 'rxjs';
import { describe, it } from 'vitest';
import { stepDeadline } from '../../src/operators/step-deadline.js';
import { marbles } from '../../src/testing/index.js';

describe('stepDeadline', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const source = t.cold('                                               -a--b--------c');
      t.expect(source.pipe(stepDeadline(t.clock, { deadlineMs: 0.004 }))).toBe('-a--b---#', undefined, { code: 'VFIO_E_DEADLINE', operation: 'step 2' });
      t.expectSubscriptions(source).toBe('^-------!');
    });
  });

  it('has one for each step, and the step\'s name', () => {
    marbles((t) => {
      const deadlineMs = (step: number): number => [0.002, 0.005][step] ?? 0.003;
      const name = (step: number): string => ['PRE_COPY', 'STOP_COPY'][step] ?? 'the end';
      t.expect(t.cold('-a------b--|').pipe(stepDeadline(t.clock, { deadlineMs, name }))).toBe('-a---- #', undefined, { code: 'VFIO_E_DEADLINE', operation: 'STOP_COPY' });
      t.expect(t.cold('-a---b-|').pipe(stepDeadline(t.clock, { deadlineMs, name }))).toBe('-a---b-|');
      t.expect(t.cold('-a---b----|').pipe(stepDeadline(t.clock, { deadlineMs, name }))).toBe('-a---b--#', undefined, { operation: 'the end' });
      t.expect(NEVER.pipe(stepDeadline(t.clock, { deadlineMs, name }))).toBe('--#', undefined, { operation: 'PRE_COPY' });
    });
  });

  it('leaves no timer behind, and takes any number of ms', () => {
    marbles((t) => {
      t.expect(t.cold('-a|').pipe(stepDeadline(t.clock, { deadlineMs: 1 }))).toBe('-a|');
      t.expect(t.cold('-a#').pipe(stepDeadline(t.clock, { deadlineMs: 1 }))).toBe('-a#');
      t.expect(t.cold('-a').pipe(stepDeadline(t.clock, { deadlineMs: 1 })), '^--!').toBe('-a');
      t.expect(concat(of('a'), of('b')).pipe(stepDeadline(t.clock, { deadlineMs: Infinity }))).toBe('(ab|)');
    });
  });
});
