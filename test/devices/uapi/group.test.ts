import fc from 'fast-check';
import { expect, it } from 'vitest';

import { encodeGroupStatusQuery, readGroupStatus } from '../../../src/devices/uapi/group.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';

it('asks byte by byte', () => {
  expect(encodeGroupStatusQuery()).toEqual(hex('08 00 00 00  00 00 00 00'));
});

it.each([
  ['00', { flags: 0, viable: false, containerSet: false }],
  ['01', { flags: 1, viable: true, containerSet: false }],
  ['03', { flags: 3, viable: true, containerSet: true }],
])('reads flags %s', (flags, expected) => {
  expect(readGroupStatus(hex(`08 00 00 00  ${flags} 00 00 00`))).toEqual(expected);
});

it('names the group where the answer is cut off', () => {
  expect(caught(() => readGroupStatus(hex('08 00 00 00'), '/dev/vfio/7'), 'VFIO_E_PROTOCOL').message).toContain('/dev/vfio/7: VFIO_GROUP_GET_STATUS');
});

it('survives any bytes', () => {
  survivesAnyBytes(readGroupStatus, fc.constant(encodeGroupStatusQuery()));
});
