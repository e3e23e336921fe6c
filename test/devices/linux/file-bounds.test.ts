import { describe, expect, it } from 'vitest';
import { fileHolds } from '../../../src/devices/linux/file-bounds.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';

describe('fileHolds', () => {
  it('asks a file for its end, and takes the word of a device', () => {
    const calls = linuxSyscalls();
    const memory = calls.memfd('bounds', 8192);
    const zeros = calls.open('/dev/zero');
    expect([fileHolds(memory, 4096, 4096), fileHolds(memory, 4096, 4097), fileHolds(memory, 2 ** 52, 4096), fileHolds(zeros, 2 ** 40, 4096)]).toEqual([true, false, false, true]);
    calls.close(memory);
    calls.close(zeros);
  });
});
