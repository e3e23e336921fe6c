import { Observable } from 'rxjs';
import { expect, it } from 'vitest';
import { LaneCalls } from '../../../src/devices/kernel/lane-calls.js';
import type { Lane, LaneTraits } from '../../../src/devices/linux/lanes.js';

it('what is about device_state takes turns with that of other devices, and nothing else does', () => {
  const asked: [string, boolean | undefined][] = [];
  const pool = {
    lane: (name: string, traits?: LaneTraits): Lane => {
      asked.push([name.replace(/^.*#\d+:/, ''), traits?.patient]);
      return { name, submit: () => new Observable(), withdraw: () => undefined };
    },
  };
  const calls = new LaneCalls(pool, 'd0');
  for (const lane of ['state', 'data:7', 'data:region 9', 'dma', 'dma log', 'access']) calls.submit(lane, { op: 'read', fd: 0, length: 1 }).subscribe({ error: () => undefined });
  expect(asked).toEqual([['state', true], ['data:7', true], ['data:region 9', true], ['dma', false], ['dma log', false], ['access', false]]);
});
