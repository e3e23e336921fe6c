import { describe, expect, it } from 'vitest';
import { ContainerSpace } from '../../../src/devices/kernel/container-space.js';
import { madeOf, type OpenedDevice } from '../../../src/devices/kernel/opened-device.js';

function opened(steps: string[], failing?: string): OpenedDevice {
  return {
    name: 'device',
    fd: 7,
    space: new ContainerSpace(-1),
    release(step) {
      for (const what of ['detached', 'closed', 'given back']) {
        step(what, () => {
          steps.push(what);
          if (what === failing) throw new Error(`${what}: failed`);
        });
      }
    },
  };
}

describe('what is made of an opened device', () => {
  it('has it from then on', () => {
    const steps: string[] = [];
    expect(madeOf(opened(steps), ({ fd }) => fd)).toBe(7);
    expect(steps).toEqual([]);
  });

  it.each([undefined, 'detached', 'given back'])('fails, and the device is given back step by step, where %s fails too', (failing) => {
    const steps: string[] = [];
    expect(() => madeOf(opened(steps, failing), () => { throw new Error('no port'); })).toThrow('no port');
    expect(steps).toEqual(['detached', 'closed', 'given back']);
  });
});
