import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { pathOf, statesOf, type TargetState } from '../../src/devices/protocol/migration-states.js';
import { pathOfV1 } from '../../src/devices/protocol/migration-v1.js';
import { readPage } from './pages.js';

/** The state diagrams of docs/protocol.md have the arcs that the library goes by, and no others. */

const page = readPage(join(resolve(import.meta.dirname, '../..'), 'docs/protocol.md'));

/** `FROM --> TO` of each state diagram, as the library writes states; where it begins is no arc. */
const diagrams = [...page.matchAll(/^```mermaid\nstateDiagram-v2\n([\s\S]*?)^```$/gm)].map(([, text = '']) => arcsIn(text));

function arcsIn(text: string): readonly string[] {
  return [...text.matchAll(/^ *([A-Z0-9_]+) --> ([A-Z0-9_]+)$/gm)].map(([, from = '', to = '']) => `${stateOf(from)} -> ${stateOf(to)}`).sort();
}

function stateOf(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

/** What one step leads to, from each state to each. */
function arcs(pathOfThese: (from: TargetState, to: TargetState) => readonly TargetState[] | undefined): readonly string[] {
  const states = statesOf(7);
  return states.flatMap((from) => states.filter((to) => pathOfThese(from, to)?.length === 1).map((to) => `${from} -> ${to}`)).sort();
}

const flags = (those: number) => (from: TargetState, to: TargetState) => pathOf(those, from, to);

describe('the diagrams of docs/protocol.md', () => {
  it.each([
    ['version 2, a device that has every state', 0, flags(7)],
    ['version 2, flags 1', 1, flags(1)],
    ['version 1', 2, pathOfV1],
  ])('have the arcs of %s', (_, which, pathOfThese) => {
    expect(diagrams.length).toBe(3);
    expect(arcs(pathOfThese).length).toBeGreaterThan(5);
    expect(diagrams[which]).toEqual(arcs(pathOfThese));
  });

  it('show every line that they have', () => {
    for (const [, text = ''] of page.matchAll(/^```mermaid\nstateDiagram-v2\n([\s\S]*?)^```$/gm)) {
      expect(text.split('\n').filter((line) => !/^ *([A-Z0-9_]+ --> [A-Z0-9_]+|\[\*\] --> RUNNING|direction LR|)$/.test(line))).toEqual([]);
    }
  });
});
