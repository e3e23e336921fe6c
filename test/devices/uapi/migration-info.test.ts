import { describe, expect, it } from 'vitest';
import {
  bitsOfState, dataPlace, encodeDeviceState, encodeInfoField, isV1State, migrationInfoLayout, readDeviceState, readInfoField, stateOfBits, type V1State,
} from '../../../src/devices/uapi/migration-info.js';
import { states } from '../../../src/devices/uapi/migration-state.js';
import { codeOf } from '../../support/devices.js';

const origin = { operation: 'device_state', device: 'd0' };

/** What each of the eight values of the three bits names. */
const names: readonly (V1State | undefined)[] = ['stop', 'running', 'stop-copy', 'pre-copy', 'resuming', undefined, 'error', undefined];

describe('device_state of v1', () => {
  it('names each of the eight values of its bits, or says that it names none', () => {
    for (const [bits, name] of names.entries()) {
      if (name === undefined) expect(codeOf(() => stateOfBits(bits, origin)), `${bits}`).toBe('VFIO_E_PROTOCOL');
      else expect([stateOfBits(bits, origin), bitsOfState(name)], `${bits}`).toEqual([name, bits]);
    }
  });

  it('leaves reserved bits out when it reads, and as they were when it writes', () => {
    expect(stateOfBits(0xffff_fff9, origin)).toBe('running');
    expect(bitsOfState('stop-copy', 0xffff_fff9)).toBe(0xffff_fffa);
    expect(readDeviceState(encodeDeviceState(0xffff_fffa))).toBe(0xffff_fffa);
  });

  it('has no P2P states', () => {
    expect(states.filter((state) => !isV1State(state))).toEqual(['running-p2p', 'pre-copy-p2p']);
  });
});

describe('the data section of v1', () => {
  const size = 0x2000;

  it('reads and writes its fields as u64', () => {
    expect(readInfoField(encodeInfoField(0x1_0000_0001))).toBe(0x1_0000_0001n);
    expect(readInfoField(new Uint8Array(8).fill(0xff))).toBe(2n ** 64n - 1n);
  });

  it('lies behind the struct, and inside the region', () => {
    expect(dataPlace(32n, 0x2000n - 32n, size, origin)).toEqual({ offset: 32, size: 0x2000 - 32 });
    expect(dataPlace(0x1fffn, 1n, size, origin)).toEqual({ offset: 0x1fff, size: 1 });
    expect(dataPlace(0x1000n, 0n, size, origin)).toEqual({ offset: 0x1000, size: 0 });
  });

  it.each([
    ['nowhere', 0n, 1n],
    ['over the struct', BigInt(migrationInfoLayout.sizeof - 1), 1n],
    ['at the end of the region', 0x2000n, 0n],
    ['beyond the region', 2n ** 63n, 0n],
    ['one byte too long', 0x1000n, 0x1001n],
    ['all there is', 0x1000n, 2n ** 64n - 1n],
    ['where the sum would wrap', 2n ** 64n - 1n, 2n ** 64n - 1n],
  ])('is not believed %s', (_, offset, bytes) => {
    expect(codeOf(() => dataPlace(offset, bytes, size, origin))).toBe('VFIO_E_PROTOCOL');
  });
});
