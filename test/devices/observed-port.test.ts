import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { concatMap, defer, map, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { observedPort } from '../../src/devices/observed-port.js';
import type { DevicePort, StateReply } from '../../src/devices/port.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { irqChannel } from '../../src/diagnostics.js';
import { errnoError } from '../../src/errors.js';
import { marbles, recordLanes, type MarbleTest } from '../../src/testing/index.js';
import { altered, firstPage, now, twoRegions, type Alter } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

function observed(t: Pick<MarbleTest, 'clock'>, alter: Alter = () => ({})): DevicePort {
  return observedPort(altered(now(softwareDevice(twoRegions).open(t.clock)), alter));
}

describe('observedPort', () => {
  it('tells of each call that succeeded, in the words of its lane', () => {
    marbles((t) => {
      const port = observed(t);
      t.at('-q-m-u-a-r', {
        q: () => { now(port.regionInfo(1)); },
        m: () => { now(port.map(0, { offset: 0, size: 0x2000 })); now(port.map(1, firstPage)); },
        u: () => { now(port.unmap(now(port.map(1, { offset: 0x1000, size: 0x1000 })))); },
        a: () => { now(now(port.irq({ index: 5 }, { ackFd: true })).ack(2n ** 63n)); },
        r: () => { now(port.info()); now(port.irqInfo(5)); port.accessNow({ region: 0, offset: 0, readBytes: 1 }); },
      });
      t.expectDevice(port).toShow({ query: '-1', map: '---<0,1>-1', unmap: '-----1', ack: '-------<9223372036854775808>', state: '', signal: '', driver: '' });
    });
  });

  it('says where: region and area, the whole mapping where none is named', () => {
    const port = observed({ clock: virtualClock() });
    using recording = recordLanes('software0');
    const mapping = now(port.map(0, { offset: 0, size: 0x2000 }));
    now(port.unmap(mapping, firstPage));
    now(port.unmap(mapping));
    expect(recording.events.map(({ label, region, area }) => [label, region, area?.offset, area?.size])).toEqual([['m0', 0, 0, 0x2000], ['u0', 0, 0, 0x1000], ['u0', 0, 0, 0x2000]]);
  });

  it('tells of irqs on a channel of their own, with the vector and what was counted', () => {
    const told: unknown[] = [];
    const listen = (event: unknown): void => void told.push(event);
    marbles((t) => {
      const software = softwareDevice(twoRegions);
      const port = observedPort(now(software.open(t.clock)));
      const [, second] = now(port.irqs(1, [0, 1]));
      if (second === undefined) throw new Error('no vector 1');
      subscribe(irqChannel.name, listen);
      t.expect(second.next().pipe(map(({ count }) => `${count}`))).toBe('--<1,|>');
      t.at('--a', { a: () => software.driver.raise({ index: 1, vector: 1 }) });
    });
    unsubscribe(irqChannel.name, listen);
    expect(told).toEqual([{ device: 'software0', atNs: 2000n, index: 1, vector: 1, count: 1n }]);
  });

  it('does not tell of what failed, but for device_state, which then ends with its error', () => {
    marbles((t) => {
      const failed = errnoError('ETIMEDOUT', 'set', 'software0');
      const port = observed(t, () => ({
        regionInfo: () => throwError(() => errnoError('EIO', 'query')),
        setState: (to) => timer(0.003, t.clock.scheduler).pipe(concatMap(() => throwError(() => failed)), map((): StateReply => ({ state: to }))),
      }));
      t.expect(port.regionInfo(0)).toBe('#', undefined, { errno: 'EIO' });
      t.expect(port.setState('pre-copy')).toBe('---#', undefined, failed);
      t.expectDevice(port).toShow({ query: '', state: '[p--]#' });
    });
  });

  it('ends with the state that was reached', () => {
    marbles((t) => {
      const port = observed(t, () => ({ setState: () => timer(0.003, t.clock.scheduler).pipe(map((): StateReply => ({ state: 'stop' }))) }));
      const recording = recordLanes('software0');
      t.expect(port.setState('stop-copy').pipe(map(({ state }) => state))).toBe('---<stop,|>');
      t.expectDevice(port).toShow({ state: '[c--]' });
      t.atEnd(() => {
        recording.stop();
        expect(recording.events.map(({ label, phase }) => [label, phase])).toEqual([['stop-copy', 'begin'], ['stop', 'end']]);
      });
    });
  });

  it('asks for nothing before it is subscribed, and once for each subscription', () => {
    marbles((t) => {
      let asked = 0;
      const port = observed(t, (inner) => ({ regionInfo: (index) => defer(() => { asked += 1; return inner.regionInfo(index); }) }));
      const query$ = port.regionInfo(0);
      expect(asked).toBe(0);
      now(query$);
      now(query$);
      expect(asked).toBe(2);
      t.expectDevice(port).toShow({ query: '<0,0>' });
    });
  });
});
