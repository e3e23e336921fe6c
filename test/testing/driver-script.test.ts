import { describe, expect, it } from 'vitest';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { driverAction } from '../../src/testing/driver-script.js';

describe('a word of a driver\'s script', () => {
  const { driver } = softwareDevice();
  const stalls: string[] = [];
  const does = (word: string): void => driverAction(word, driver, (duration) => stalls.push(duration))();

  it('changes layouts', () => {
    does('revoke');
    expect(driver.layout.get(0)).toEqual([]);
    does('restore0');
    expect(driver.layout.get(0)).toHaveLength(1);
  });

  it('sets and takes back faults', () => {
    does('drop-ack');
    expect(driver.faults.ignoreAcks).toBe(true);
    does('hear-ack');
    expect(driver.faults.ignoreAcks).toBe(false);
    does('signal-delay 20us');
    does('arc-latency 1.5ms');
    expect(driver.faults).toMatchObject({ signalDelayUs: 20, arcLatencyUs: 1_500 });
  });

  it('fails calls once, with the errno that is given or usual', () => {
    for (const word of ['fail-query2', 'fail-map1 EINVAL', 'fail-irq', 'fail-arc c EBUSY']) does(word);
    expect(['query 2', 'map 1', 'irq', 'arc stop-copy', 'query 2'].map((what) => driver.faults.take(what))).toEqual(['EIO', 'EINVAL', 'EMFILE', 'EBUSY', undefined]);
    expect(() => { does('fail-arc nowhere'); }).toThrow('there is no arc to nowhere');
  });

  it('stalls the user', () => {
    does('stall 50ms');
    expect(stalls).toEqual(['50ms']);
  });
});
