import { describe, expect, it } from 'vitest';
import { readOptions, UsageError } from '../../../examples/main-job/options.js';

describe('the options of the main job', () => {
  it('have defaults', () => {
    expect(readOptions([])).toEqual({ kernel: false, json: false, seconds: 3, rounds: 6, sabotage: undefined, profile: 'doorbell-value' });
    expect(readOptions(['--kernel'])).toMatchObject({ kernel: true, rounds: 3 });
  });

  it('are read', () => {
    expect(readOptions(['--json', '--seconds', '1.5', '--rounds=2', '--sabotage', 'stale', '--profile', 'rfc-v4'])).toEqual({ kernel: false, json: true, seconds: 1.5, rounds: 2, sabotage: 'stale', profile: 'rfc-v4' });
    expect(readOptions(['--help'])).toBe('help');
  });

  it.each([
    [['--colour'], /--colour/],
    [['file'], /^Unexpected argument 'file'$/],
    [['--seconds', 'long'], /--seconds takes a number from 0.2 to 20, not 'long'/],
    [['--seconds', ''], /--seconds/],
    [['--seconds', '60'], /--seconds/],
    [['--rounds', '1.5'], /--rounds takes a whole number/],
    [['--rounds', '0'], /--rounds/],
    [['--sabotage', 'toString'], /--sabotage takes one of stale, skip-ack, early-ack, lose/],
    [['--profile', 'v5'], /--profile takes one of doorbell-value, .*, static, not 'v5'/],
  ])('%j is refused', (args, message) => {
    expect(() => readOptions(args)).toThrow(UsageError);
    expect(() => readOptions(args)).toThrow(message);
  });
});
