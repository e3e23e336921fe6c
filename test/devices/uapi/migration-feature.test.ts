import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  encodeMigrationQuery,
  encodeStateQuery,
  encodeStateSet,
  readDataFd,
  readMigrationFlags,
  readMigState,
} from '../../../src/devices/uapi/migration-feature.js';
import { states } from '../../../src/devices/uapi/migration-state.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';

describe('VFIO_DEVICE_FEATURE_MIGRATION', () => {
  it('asks byte by byte', () => {
    expect(encodeMigrationQuery()).toEqual(hex('10 00 00 00  01 00 01 00  00 00 00 00 00 00 00 00'));
  });

  it.each([
    ['01', { stopCopy: true, p2p: false, preCopy: false, flags: 1n }],
    ['03', { stopCopy: true, p2p: true, preCopy: false, flags: 3n }],
    ['05', { stopCopy: true, p2p: false, preCopy: true, flags: 5n }],
    ['07', { stopCopy: true, p2p: true, preCopy: true, flags: 7n }],
  ])('reads flags %s', (flags, expected) => {
    expect(readMigrationFlags(hex(`10 00 00 00  01 00 01 00  ${flags} 00 00 00 00 00 00 00`))).toEqual(expected);
  });

  it('keeps bits that it does not know', () => {
    expect(readMigrationFlags(hex('10 00 00 00 01 00 01 00 01 00 00 00 00 00 00 80')).flags).toBe((1n << 63n) | 1n);
  });

  it('survives any bytes', () => {
    survivesAnyBytes(readMigrationFlags, fc.constant(encodeMigrationQuery()));
  });
});

describe('VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE', () => {
  it('asks and sets byte by byte, data_fd -1', () => {
    expect(encodeStateQuery()).toEqual(hex('10 00 00 00  02 00 01 00  00 00 00 00  ff ff ff ff'));
    expect(encodeStateSet('stop-copy')).toEqual(hex('10 00 00 00  02 00 02 00  03 00 00 00  ff ff ff ff'));
  });

  it('reads an answer with and without a data_fd', () => {
    expect(readMigState(hex('10 00 00 00  02 00 02 00  06 00 00 00  00 00 00 00'))).toEqual({ state: 'pre-copy', dataFd: 0 });
    expect(readMigState(hex('10 00 00 00  02 00 02 00  02 00 00 00  ff ff ff ff'))).toEqual({ state: 'running', dataFd: undefined });
  });

  it('gives back every state that was set', () => {
    for (const state of states) expect(readMigState(encodeStateSet(state))).toEqual({ state, dataFd: undefined });
  });

  it('refuses an unknown state, and the file descriptor that came with it can still be found', () => {
    const bytes = hex('10 00 00 00  02 00 02 00  08 00 00 00  2a 00 00 00');
    expect(caught(() => readMigState(bytes, 'sw0'), 'VFIO_E_PROTOCOL').message)
      .toContain('sw0: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: at byte 8 of the answer: no device_state has the number 8');
    expect(readDataFd(bytes)).toBe(42);
  });

  it('refuses a negative data_fd other than -1', () => {
    const bytes = hex('10 00 00 00  02 00 02 00  02 00 00 00  fe ff ff ff');
    expect(caught(() => readMigState(bytes), 'VFIO_E_PROTOCOL').message).toContain('at byte 12 of the answer: data_fd is -2');
    expect(readDataFd(bytes)).toBeUndefined();
  });

  it('survives any bytes', () => {
    survivesAnyBytes(readMigState, fc.constantFrom(...states).map(encodeStateSet));
    survivesAnyBytes(readDataFd, fc.constantFrom(...states).map(encodeStateSet));
  });
});
