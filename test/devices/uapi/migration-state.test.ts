import { expect, it } from 'vitest';

import { stateName, stateNumber, states } from '../../../src/devices/uapi/migration-state.js';
import { caught } from './bytes-helpers.js';

it('names every number of enum vfio_device_mig_state, and numbers every name', () => {
  expect(states).toEqual(['error', 'stop', 'running', 'stop-copy', 'resuming', 'running-p2p', 'pre-copy', 'pre-copy-p2p']);
  states.forEach((state, number) => {
    expect(stateNumber(state)).toBe(number);
    expect(stateName(number)).toBe(state);
  });
});

it.each([-1, 8, 0xffff_ffff, Number.NaN])('refuses number %d', (number) => {
  expect(caught(() => stateName(number), 'VFIO_E_PROTOCOL').operation).toBe('VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE');
});
