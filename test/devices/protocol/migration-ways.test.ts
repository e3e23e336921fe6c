import { describe, expect, it } from 'vitest';
import { pathOf } from '../../../src/devices/protocol/migration-states.js';
import { pathOfV1 } from '../../../src/devices/protocol/migration-v1.js';
import { wayOf } from '../../../src/devices/protocol/migration-ways.js';
import { states } from '../../../src/devices/uapi/migration-state.js';

describe('wayOf', () => {
  it('is a way of arcs in v2, and one write in v1', () => {
    expect(wayOf({ version: 2, flags: 5 }, 'running', 'stop-copy')).toEqual(['stop', 'stop-copy']);
    expect(wayOf({ version: 1, flags: 5 }, 'running', 'stop-copy')).toEqual(['stop-copy']);
  });

  it('asks the generation that the device speaks, for every pair of states', () => {
    for (const from of states) {
      for (const to of states) {
        expect(wayOf({ version: 1, flags: 5 }, from, to)).toEqual(pathOfV1(from, to));
        for (const flags of [0, 1, 3, 5, 7]) expect(wayOf({ version: 2, flags }, from, to)).toEqual(pathOf(flags, from, to));
      }
    }
  });
});
