import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { aborts, eitherAbort, untilAborted } from '../src/abort.js';
import { marbles } from '../src/testing/index.js';

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

describe('untilAborted', () => {
  it('is its diagram, and listens no longer than it is subscribed', () => {
    marbles((t) => {
      const controller = new AbortController();
      const reason = new Error('enough');
      const source = t.hot('--a----b----c');
      t.at('---------x', { x: () => controller.abort(reason) });
      t.expect(source.pipe(untilAborted(controller.signal, { operation: 'open', device: 'vf0' }))).toBe('--a----b-#', undefined, { code: 'VFIO_E_ABORTED', operation: 'open', device: 'vf0', cause: reason });
      t.expectSubscriptions(source).toBe('^--------!');
      t.atEnd(() => expect(listeners(controller.signal)).toBe(0));
    });
  });

  it('lets an end be the end', () => {
    marbles((t) => {
      const { signal } = new AbortController();
      t.expect(t.cold('a|').pipe(untilAborted(signal, { operation: 'open' }))).toBe('a|');
      t.expect(t.cold('--').pipe(untilAborted(signal, { operation: 'open' })), '^-!').toBe('');
      t.at('---x', { x: () => expect(listeners(signal)).toBe(0) });
    });
  });

  it('begins nothing where the signal is aborted already', () => {
    marbles((t) => {
      const source = t.cold('a|');
      t.expect(source.pipe(untilAborted(AbortSignal.abort(), { operation: 'open' }))).toBe('#', undefined, { code: 'VFIO_E_ABORTED' });
      t.expectSubscriptions(source).toBe([]);
    });
  });
});

describe('eitherAbort', () => {
  it('hears both, and one that is there already at once', () => {
    marbles((t) => {
      const controller = new AbortController();
      t.at('---x', { x: () => controller.abort('s') });
      t.expect(eitherAbort(t.hot('-a'), controller.signal)).toBe('-a-s');
      t.expect(aborts(controller.signal), '-----^').toBe('-----s');
      t.expect(eitherAbort(undefined, undefined)).toBe('|');
    });
  });
});
