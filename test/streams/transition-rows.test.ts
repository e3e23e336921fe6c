import { concat, ignoreElements, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq, type RemapIrqOptions } from '../../src/streams/remap-irq.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions, whole } from '../support/devices.js';

/** Every row of the protocol, under both generations of device_state: the two know nothing of each other. */

const rows: readonly (readonly [string, NonNullable<SoftwareDeviceOptions['remap']>, RemapIrqOptions])[] = [
  ['rfc-v4, write-zero', { profile: 'rfc-v4' }, {}],
  ['rfc-v4, write-one', { profile: 'rfc-v4' }, { rfcAck: 'write-one' }],
  ['doorbell, value', {}, {}],
  ['doorbell, none', { ack: 'none' }, {}],
  ['bitmap, value', { signals: 'bitmap' }, {}],
  ['bitmap, none', { signals: 'bitmap', ack: 'none' }, {}],
  ['saving-layout', { profile: 'saving-layout' }, {}],
  ['static', false, {}],
];

const reached = map(({ to }: Arc) => to);

describe.each([2, 1] as const)('device_state of version %i', (migrationVersion) => {
  it.each(rows)('moves regions and states in the row %s', (row, remap, options) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap, migrationVersion });
      /** What the driver offers of each region is what is mapped of it. */
      const agree = () => expect([0, 1].map((index) => device.region(index).mapped.areas)).toEqual([0, 1].map((index) => driver.layout.get(index)));
      t.expect(remapIrq(device, options).pipe(remapRegions(device), ignoreElements())).toBe(['saving-layout', 'static'].includes(row) ? '|' : '');
      t.expect(concat(transition(device, 'pre-copy'), transition(device, 'stop-copy')).pipe(reached), '---^').toBe('---(ab|)', { a: 'pre-copy', b: 'stop-copy' });
      t.at('--a-----b---c', { a: agree, b: () => { agree(); expect(driver.state).toBe('stop-copy'); }, c: agree });
      t.at('--------x', { x: () => expect(driver.layout.get(0)).toEqual(row === 'static' ? [whole] : []) });
      t.expect(concat(transition(device, 'stop'), transition(device, 'running')).pipe(reached), '----------^').toBe('----------(ab|)', { a: 'stop', b: 'running' });
      t.expect(concat(transition(device, 'resuming'), transition(device, 'running')).pipe(reached), '------------^').toBe('------------(ab|)', { a: 'resuming', b: 'running' });
      t.atEnd(() => {
        expect([driver.state, driver.waiters, driver.violationList]).toEqual(['running', 0, []]);
        agree();
      });
    });
  });
});
