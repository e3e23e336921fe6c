import { expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { PortTraits } from '../../src/devices/port.js';
import { atOnce } from '../../src/migration/at-once.js';
import type { MigrationEvent } from '../../src/migration/plan.js';
import { softwareSource } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';
import { pair, small } from './pair.js';

function devices(count: number, traits: Partial<PortTraits>): readonly VfioDevice[] {
  const clock = virtualClock();
  return Array.from({ length: count }, (_, n) => {
    const opened: VfioDevice[] = [];
    openDevice(softwareSource({ ...small, name: `vf${n}` }, (port) => ({ traits: { ...port.traits, ...traits } })), { clock }).subscribe({ next: (device) => opened.push(device), error: (error: unknown) => { throw error; } });
    clock.flush();
    return opened[0] as VfioDevice;
  });
}

it('says how many devices are stopped at once, where not all of them can be', () => {
  const held = devices(3, { maxBlockedThreads: 2 });
  expect([atOnce(held), atOnce(held.slice(1)), atOnce(devices(3, {})), atOnce([...held.slice(1), ...devices(9, {})])]).toEqual([2, undefined, undefined, undefined]);
});

it.each(['source', 'destination'] as const)('the %s says it before anything is asked of them', (side) => {
  const clock = virtualClock();
  const p = pair(clock, 3, () => { clock.flush(); });
  for (const { device } of p[side]) Object.assign(device.port, { traits: { ...device.port.traits, maxBlockedThreads: 2 } });
  const events: Record<typeof side, MigrationEvent[]> = { source: [], destination: [] };
  const tell = (of: typeof side) => ({ next: (event: MigrationEvent) => events[of].push(event), error: (error: unknown) => { throw error; } });
  p.receive().subscribe(tell('destination'));
  p.migrate().subscribe(tell('source'));
  clock.flush();
  const told = (of: typeof side) => events[of].flatMap((event) => ('atOnce' in event ? [[event.phase, event.atOnce]] : []));
  expect([told(side), told(side === 'source' ? 'destination' : 'source')]).toEqual([[['check', 2]], []]);
  expect(events[side][0]?.phase).toBe('check');
});
