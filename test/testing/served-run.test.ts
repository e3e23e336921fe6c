import { skip, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { marbles, servedRun } from '../../src/testing/index.js';

const registered = 'batch 0, registered, region 0 -0 +1, region 1 -0 +2';

describe('servedRun', () => {
  it('serves remaps, takes the device where it is told, and tells both', () => {
    marbles((t) => {
      const device = t.device({ driver: '<arc-latency 5us>-------<revoke0>' });
      t.expect(servedRun(device, { states: ['pre-copy', 'running'] })).toBe('<r,s>---- <t,p,b>---- <u,v,e,|>', {
        r: registered,
        s: 'batch 1, signal, 1 read, acked, region 0 -1 +0, region 1 -1 +0',
        t: 'batch 2, after-transition',
        p: 'running -> pre-copy',
        b: '16 bytes saved, then quiet',
        u: 'batch 3, signal, 1 read, acked, region 1 -0 +1',
        v: 'batch 4, after-transition',
        e: 'pre-copy -> running',
      });
    });
  });

  it('saves to the end, tells what failed, and goes on', () => {
    marbles((t) => {
      const device = t.device({ remap: false, driver: '<fail-arc running EIO>' });
      const told = servedRun(device, { states: ['stop-copy', 'pre-copy', 'running', 'running'] });
      t.expect(told.pipe(toArray())).toBe('<a,|>', {
        a: [
          'batch 0, registered, region 0 -0 +1, region 1 -0 +2',
          'running -> stop-copy',
          '201040 bytes saved, then end',
          'device_state pre-copy failed: VFIO_E_ARC',
          'device_state running failed: VFIO_E_IO',
          'running-p2p -> running',
        ],
      });
    });
  });

  it('loads what it has saved to the end, and nothing else', () => {
    marbles((t) => {
      const device = t.device({ remap: false });
      t.expect(servedRun(device, { states: ['pre-copy', 'resuming', 'stop-copy', 'resuming', 'running'] }).pipe(skip(1), toArray())).toBe('<a,|>', {
        a: [
          'running -> pre-copy',
          '16 bytes saved, then quiet',
          'device_state resuming was not asked for: nothing was saved to its end that could be loaded',
          'pre-copy -> stop-copy',
          '201024 bytes saved, then end',
          'stop-copy -> resuming',
          '201040 bytes loaded',
          'resuming -> running',
        ],
      });
    });
  });

  it('ends when its time is over, whatever goes on, and else when it is told', () => {
    marbles((t) => {
      const device = t.device({ driver: '<arc-latency 5s>' });
      t.expect(servedRun(device, { states: ['pre-copy'], forMs: 2 })).toBe('<r,s> 1999us |', { r: registered, s: expect.stringContaining('signal') as unknown });
    });
    marbles((t) => {
      const device = t.device();
      t.expect(servedRun(device, { until: t.cold('1s x') })).toBe('r 999999us |', { r: registered });
      t.expectDevice(device).toShow({ state: '' });
    });
  });

  it('fails as the pipeline does', () => {
    marbles((t) => {
      const device = t.device({ driver: '<fail-irq EMFILE>' });
      t.at('-', {});
      t.expect(servedRun(device), '-^').toBe('-#', undefined, { code: 'VFIO_E_LIMIT' });
    });
  });
});
