import { describe, expect, it } from 'vitest';
import { brokenStreams, checkStream, streamRules } from '../../../../src/testing/index.js';

/** A suite that cannot fail proves nothing: every rule has a stream that it must refuse. */
describe('the stream suite', () => {
  for (const { name, breaks, because, subject } of brokenStreams) {
    it(`refuses one that ${name} (${breaks.join(', ')}), for nothing else`, async () => {
      const failed = (await checkStream(subject)).filter(({ outcome }) => outcome === 'failed');
      expect(new Set(failed.map(({ rule }) => rule))).toEqual(new Set(breaks));
      expect(failed.find(({ rule }) => rule === breaks[0])?.reason).toContain(because);
    });
  }

  it('has a broken stream for every rule', () => {
    const made = new Set(brokenStreams.map(({ breaks: [first] }) => first));
    expect(streamRules.map(({ id }) => id).filter((id) => !made.has(id))).toEqual([]);
  });
});
