import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

import { describe, expect, it } from 'vitest';

describe('the guest', () => {
  it('runs the kernel that the lane promises', () => {
    expect(release().split('.').slice(0, 2).join('.')).toBe(process.env['VFIO_RX_KERNEL_SERIES']);
  });

  it('offers a VFIO container', () => {
    expect(existsSync('/dev/vfio/vfio')).toBe(true);
  });

  it('has loaded every module of the sample driver', () => {
    const expected = (process.env['VFIO_RX_DRIVER_MODULES'] ?? '').split(',').filter((name) => name !== '');
    const loaded = readFileSync('/proc/modules', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[0]);
    expect(expected).not.toEqual([]);
    expect(loaded).toEqual(expect.arrayContaining(expected));
  });
});
