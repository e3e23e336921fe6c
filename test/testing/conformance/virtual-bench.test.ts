import { concatMap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { VirtualBench } from '../../../src/testing/conformance/virtual-bench.js';
import { irq } from '../../../src/streams/index.js';

describe('VirtualBench', () => {
  it('writes down every call as it is subscribed', () => {
    const bench = new VirtualBench();
    const opening = bench.calls.length;
    bench.run(() => {
      void bench.device.port.getState();
      const { subscription } = bench.listen(irq(bench.device, { index: 1 }));
      bench.driver.raiseMsi();
      bench.pass(1);
      subscription.unsubscribe();
    });
    expect(bench.calls.slice(opening)).toEqual(['irqInfo', 'irq', 'irq.next', 'irq.next']);
  });

  it('hears values with their frames, also of what asks no clock of ours', () => {
    const bench = new VirtualBench();
    const heard = bench.run(() => {
      const listening = bench.listen(timer(1).pipe(concatMap(() => timer(2))));
      bench.pass(10);
      return listening;
    });
    expect(heard).toMatchObject({ values: [0], frames: [3000], errors: [], completed: true });
    expect(bench.frame).toBe(10_000);
  });

  it('knows what is held', () => {
    const bench = new VirtualBench();
    bench.run(() => {
      const { subscription } = bench.listen(irq(bench.device, { index: 1 }));
      const timing = bench.listen(timer(50, bench.device.clock.scheduler)).subscription;
      expect(bench.held).toBe('1 eventfds, 0 blocked writes, 1 timers');
      subscription.unsubscribe();
      timing.unsubscribe();
      expect(bench.held).toBe('0 eventfds, 0 blocked writes, 0 timers');
      bench.close();
    });
    expect(bench.driver.opens).toBe(0);
  });

  it('says why a device did not open', () => {
    expect(() => new VirtualBench({ name: 'x', regions: [{ index: 0, size: -1 }] })).toThrow('region 0 has size -1');
  });
});
