import type { VfioDevice } from '../devices/device.js';

/**
 * How many of these devices can be stopped, or loaded, at once, where not all of them can: a call that is blocked in a driver holds a thread, and the
 * others wait for their turn. undefined: all of them.
 */
export function atOnce(devices: readonly VfioDevice[]): number | undefined {
  const shares = devices.flatMap(({ port: { traits } }) => (traits.maxBlockedThreads === undefined ? [] : [traits.maxBlockedThreads]));
  const share = Math.min(...shares);
  return shares.length > share ? share : undefined;
}
