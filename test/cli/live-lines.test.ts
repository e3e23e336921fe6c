import { expect, it } from 'vitest';
import { LiveLines } from '../../src/cli/live-lines.js';
import { terminal } from './terminal.js';

it('lines are drawn over the ones before, and the last ones stay', () => {
  const { stream, lines, written } = terminal();
  const live = new LiveLines(stream);
  live.draw(['DEVICE  LAST', 'nic     a long line']);
  live.draw(['DEVICE  LAST', 'nic     {text}']);
  live.stop();
  live.stop();
  expect(lines()).toEqual(['DEVICE  LAST', 'nic     {text}', '']);
  expect(written().lastIndexOf('\u001b[?25h')).toBeGreaterThan(written().lastIndexOf('\u001b[?25l'));
});

it('nothing is drawn where nothing was told', () => {
  const { stream, written } = terminal();
  new LiveLines(stream).stop();
  expect(written()).toBe('');
});
