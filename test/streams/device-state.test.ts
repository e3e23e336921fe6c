import { map, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { StateView } from '../../src/devices/state-writer.js';
import { deviceState } from '../../src/streams/device-state.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { openedNow, twoRegions } from '../support/devices.js';

const text = map(({ state, going }: StateView) => (going === undefined ? state : `${state}>${going}`));
const fail = (error: unknown): never => { throw error; };

describe('deviceState', () => {
  it.each([2, 1] as const)('is its diagram, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false, migrationVersion });
      driver.faults.arcLatencyUs = 8;
      t.at('                      --x------------', { x: () => { transition(device, 'pre-copy').subscribe({ error: fail }); } });
      t.expectDevice(device).toShow({
        state: '                  --[p-------]---' });
      t.expect(deviceState(device).pipe(text)).toBe('r-g -------p----', { r: 'running', g: 'running>pre-copy', p: 'pre-copy' });
    });
  });

  it('does not glitch: every subscriber sees the same order, also where one of them goes on at once', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, remap: false });
      const onward = tap(({ state, going }: StateView) => {
        if (state === 'stop' && going === undefined) transition(device, 'running').subscribe({ error: fail });
      });
      const order = '<running>----(abcd)';
      const names = { a: 'running>stop', b: 'stop', c: 'stop>running', d: 'running', running: 'running' };
      t.expect(deviceState(device).pipe(onward, text)).toBe(order, names);
      t.expect(deviceState(device).pipe(text)).toBe(order, names);
      t.at('-----x', { x: () => { transition(device, 'stop').subscribe({ error: fail }); } });
    });
  });

  it('says since when', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false });
      driver.faults.arcLatencyUs = 2;
      t.at('---x', { x: () => { transition(device, 'running-p2p').subscribe({ error: fail }); } });
      t.expect(deviceState(device).pipe(map(({ sinceNs }) => `${sinceNs}`))).toBe('a--a-b', { a: '0', b: '5000' });
    });
  });

  it('completes when the device is closed; who comes later gets the last state and the end', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.at('--c', { c: () => void device.close() });
      t.expect(deviceState(device).pipe(text)).toBe('r-|', { r: 'running' });
      t.expect(deviceState(device).pipe(text), '----^').toBe('----<r,|>', { r: 'running' });
      t.atEnd(() => expect(device.currentState.state).toBe('running'));
    });
  });
});
