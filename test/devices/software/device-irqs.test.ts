import { describe, expect, it } from 'vitest';
import { failure, now, opened, traced, watch } from './opened.js';

const all = { intx: true, msi: 4, msix: 8, err: true, req: true, device: 2 } as const;
const [intx, msi, msix, err, req, own] = [0, 1, 2, 3, 4, 6];

describe('the irqs of a software device', () => {
  it('are those of its options, as vfio-pci tells of them', () => {
    const { port } = opened({ irqs: all });
    expect([0, 1, 2, 3, 4, 6].map((index) => { const { count, flags } = now(port.irqInfo(index)); return [index, count, flags]; }))
      .toEqual([[intx, 1, 7], [msi, 4, 9], [msix, 8, 1], [err, 1, 9], [req, 1, 9], [own, 2, 3]]);
    expect(now(port.info()).irqs).toBe(7);
    expect(now(opened({ irqs: { msix: 8, dynamicMsix: false } }).port.irqInfo(msix)).flags).toBe(9);
  });

  it('cannot stand where the remap irq stands', () => {
    expect(() => opened({ remap: { irqIndex: 2 }, irqs: { msix: 1 } })).toThrow(expect.objectContaining({ code: 'VFIO_E_RANGE' }));
    opened({ remap: { irqIndex: 2 } });
  });
});

describe('INTx', () => {
  it('signals once, and again when it is unmasked while its line is up', () => {
    const { clock, device, port } = opened({ irqs: all });
    const irq = now(port.irq({ index: intx }));
    const count = (): bigint | undefined => {
      const seen = watch(irq.next());
      clock.advanceMs(0);
      seen.stop();
      return seen.values[0]?.count;
    };
    device.driver.raise({ index: intx });
    device.driver.raise({ index: intx });
    expect(count()).toBe(1n);
    now(irq.unmask());
    expect(count()).toBe(1n);
    device.driver.lower({ index: intx });
    now(irq.unmask());
    expect(count()).toBeUndefined();
    now(irq.mask());
    device.driver.raise({ index: intx });
    expect(count()).toBeUndefined();
    now(irq.unmask());
    expect(count()).toBe(1n);
  });

  it('is unmasked by each write of its unmask eventfd, which the driver empties', () => {
    const { clock, device, port } = opened({ irqs: all });
    const irq = now(port.irq({ index: intx }, { ackFd: true }));
    expect(device.driver.irqs).toBe(2);
    device.driver.raise({ index: intx });
    for (let times = 0; times < 3; times += 1) {
      const seen = watch(irq.next());
      clock.advanceMs(0);
      expect(seen.values.map((signal) => signal.count)).toEqual([1n]);
      now(irq.ack(1n));
    }
    now(irq.close());
    expect(device.driver.irqs).toBe(0);
  });

  it('whose line is up already signals when it is enabled', () => {
    const { clock, device, port } = opened({ irqs: all });
    device.driver.raise({ index: intx });
    const seen = watch(now(port.irq({ index: intx })).next());
    clock.advanceMs(0);
    expect(seen.values).toHaveLength(1);
  });
});

describe('the others', () => {
  it('signal by vector; a message that nobody has enabled is lost', () => {
    const { clock, device, port } = opened({ irqs: all });
    device.driver.raise({ index: msi, vector: 1 });
    const irqs = now(port.irqs(msi, [1, 3]));
    const seen = irqs.map((irq) => watch(irq.next()));
    device.driver.raise({ index: msi, vector: 3 });
    device.driver.raise({ index: msi, vector: 2 });
    clock.advanceMs(0);
    expect(seen.map(({ values }) => values.map(({ line, count }) => [line.vector, count]))).toEqual([[], [[3, 1n]]]);
    expect(() => device.driver.raise({ index: msi, vector: 4 })).toThrow(RangeError);
    expect(traced(device, 'register', 'unregister')).toEqual(['register role=msi vector=1', 'register role=msi vector=3']);
  });

  it('that are maskable keep what comes while they are masked', () => {
    const { clock, device, port } = opened({ irqs: all });
    const [irq] = now(port.irqs(own, [1], { ackFd: true }));
    if (irq === undefined) throw new Error('no irq');
    const seen = watch(irq.next());
    now(irq.mask());
    device.driver.raise({ index: own, vector: 1 });
    device.driver.raise({ index: own, vector: 1 });
    clock.advanceMs(0);
    expect(seen.values).toEqual([]);
    now(irq.unmask());
    clock.advanceMs(0);
    expect(seen.values.map(({ count }) => count)).toEqual([1n]);
  });

  it('are signalled by loopback, all of a range or some of it', () => {
    const { clock, port } = opened({ irqs: all });
    const irqs = now(port.irqs(msix, [0, 1, 2]));
    now(port.setIrqs({ index: msix, action: 'trigger', data: 'none', start: 0, count: 3 }));
    now(port.setIrqs({ index: msix, action: 'trigger', data: 'bool', start: 1, vectors: [false, true] }));
    const seen = irqs.map((irq) => watch(irq.next()));
    clock.advanceMs(0);
    expect(seen.map(({ values }) => values.map(({ count }) => count))).toEqual([[1n], [1n], [2n]]);
    expect(failure(port.setIrqs({ index: msix, action: 'mask', data: 'none', start: 0, count: 1 }))).toBe('VFIO_E_UNSUPPORTED');
  });

  it('ERR and REQ stand beside any of them', () => {
    const { device, port } = opened({ irqs: all });
    for (const index of [msix, err, req]) now(port.irq({ index }));
    expect(device.driver.irqs).toBe(3);
    expect(failure(port.irq({ index: intx }))).toBe('VFIO_E_BUSY');
    expect(failure(port.irq({ index: msi }))).toBe('VFIO_E_BUSY');
  });
});
