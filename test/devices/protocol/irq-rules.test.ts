import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { enabledAfter, irqKind, irqRefusal, irqRow, pciIrqRows, type IrqKind, type IrqUse } from '../../../src/devices/protocol/irq-rules.js';
import { DeviceIrqs, irqFacts, withOwnIrq } from '../../../src/devices/software/device-irqs.js';
import { SoftEventfd } from '../../../src/devices/software/eventfd.js';
import { Trace } from '../../../src/devices/software/trace.js';
import type { IrqInfo } from '../../../src/devices/uapi/irq-info.js';
import type { IrqAction, IrqData, IrqSet } from '../../../src/devices/uapi/irq-set.js';

const info = (index: number, more: Partial<IrqInfo> = {}): IrqInfo => ({ index, flags: 1, count: 4, eventfd: true, maskable: false, automasked: false, noResize: false, ...more });

function use(kind: IrqKind, more: Partial<IrqUse> = {}): IrqUse {
  return { kind, info: info(1), enabled: 4, on: new Set([kind]), ...more };
}

function setOf(index: number, action: IrqAction, data: IrqData, start: number, count: number): IrqSet<string | undefined> {
  switch (data) {
    case 'none':
      return { index, action, start, data, count };
    case 'bool':
      return { index, action, start, data, vectors: new Array<boolean>(count).fill(true) };
    case 'eventfd':
      return { index, action, start, data, fds: new Array<string>(count).fill('fd') };
  }
}

describe('DATA x ACTION', () => {
  it('on a PCI device is this table', () => {
    const rows = Object.entries(pciIrqRows).flatMap(([kind, row]) => Object.entries(row).map(([action, data]) => `${kind} ${action}: ${data.join(' ')}`.trim()));
    expect(rows).toEqual([
      'intx trigger: none bool eventfd', 'intx mask: none bool', 'intx unmask: none bool eventfd',
      'msi trigger: none bool eventfd', 'msi mask:', 'msi unmask:',
      'msi-x trigger: none bool eventfd', 'msi-x mask:', 'msi-x unmask:',
      'err trigger: none bool eventfd', 'err mask:', 'err unmask:',
      'req trigger: none bool eventfd', 'req mask:', 'req unmask:',
    ]);
  });

  it.each([
    [info(0), true, 'intx'], [info(1), true, 'msi'], [info(2), true, 'msi-x'], [info(3), true, 'err'], [info(4), true, 'req'], [info(5), true, 'device'],
    [info(0), false, 'device'], [info(5, { remap: { subtype: 'rfc-v4' } }), true, 'remap'], [info(1, { remap: { subtype: 'rfc-v4' } }), false, 'remap'],
  ] as const)('knows an irq by its index, its chain and the face of the device: %o, PCI %s', (one, pci, kind) => {
    expect(irqKind(one, pci)).toBe(kind);
  });

  it('follows the flags where nothing else says what an irq takes', () => {
    expect(irqRow('device', info(6))).toEqual({ trigger: ['none', 'bool', 'eventfd'], mask: [], unmask: [] });
    expect(irqRow('device', info(6, { maskable: true }))).toMatchObject({ mask: ['none', 'bool'], unmask: ['none', 'bool', 'eventfd'] });
    expect(irqRow('device', info(6, { automasked: true }))).toMatchObject({ mask: [], unmask: ['none', 'bool', 'eventfd'] });
    expect(irqRow('device', info(6, { eventfd: false }))).toMatchObject({ trigger: [] });
  });

  it('gives a remap irq its eventfds, an ack fd only where acks carry a value', () => {
    const remap = { subtype: 'region-remap', page: 0, doorbell: true, noAck: false, regions: 1n, ackTimeoutMs: 1, maxWaits: 1 } as const;
    expect(irqRow('remap', info(5, { remap }))).toEqual({ trigger: ['eventfd'], mask: [], unmask: ['eventfd'] });
    expect(irqRow('remap', info(5, { remap: { ...remap, noAck: true } })).unmask).toEqual([]);
    expect(irqRow('remap', info(5, { remap: { subtype: 'rfc-v4' } })).unmask).toEqual([]);
  });
});

describe('a call is refused', () => {
  it.each([
    ['an irq without vectors', setOf(1, 'trigger', 'eventfd', 0, 1), use('msi', { info: info(1, { count: 0 }), enabled: 0 }), 'VFIO_E_NO_IRQ'],
    ['a mask of what has none', setOf(1, 'mask', 'none', 0, 1), use('msi'), 'VFIO_E_UNSUPPORTED'],
    ['a vector beyond the last', setOf(1, 'trigger', 'eventfd', 3, 2), use('msi'), 'VFIO_E_NO_IRQ'],
    ['half a vector', setOf(1, 'trigger', 'none', 0.5, 1), use('msi'), 'VFIO_E_RANGE'],
    ['no vectors', setOf(1, 'unmask', 'none', 0, 0), use('intx'), 'VFIO_E_RANGE'],
    ['a loopback of what is not enabled', setOf(1, 'trigger', 'bool', 1, 2), use('msi', { enabled: 2 }), 'VFIO_E_RANGE'],
    ['turning off from a vector that is not there', setOf(1, 'trigger', 'none', 4, 0), use('msi'), 'VFIO_E_NO_IRQ'],
    ['turning off what is off', setOf(1, 'trigger', 'none', 0, 0), use('msi', { enabled: 0, on: new Set() }), 'VFIO_E_RANGE'],
    ['MSI beside INTx', setOf(1, 'trigger', 'eventfd', 0, 1), use('msi', { enabled: 0, on: new Set(['intx']) }), 'VFIO_E_BUSY'],
    ['INTx beside MSI-X', setOf(0, 'trigger', 'eventfd', 0, 1), use('intx', { enabled: 0, on: new Set(['err', 'msi-x']) }), 'VFIO_E_BUSY'],
    ['more vectors than were enabled at first', setOf(1, 'trigger', 'eventfd', 2, 1), use('msi', { info: info(1, { noResize: true }), enabled: 2 }), 'VFIO_E_BUSY'],
  ] as const)('%s', (_, set, now, code) => {
    expect(irqRefusal(set, now)?.code).toBe(code);
  });

  it('and not: what is beside it, or grows where that is allowed', () => {
    expect(irqRefusal(setOf(1, 'trigger', 'eventfd', 2, 2), use('msi-x', { enabled: 2 }))).toBeUndefined();
    expect(irqRefusal(setOf(3, 'trigger', 'eventfd', 0, 1), use('err', { enabled: 0, on: new Set(['intx', 'req']) }))).toBeUndefined();
    expect(irqRefusal(setOf(6, 'trigger', 'eventfd', 0, 1), use('device', { enabled: 0, on: new Set(['msi']) }))).toBeUndefined();
  });
});

/** A driver that serves SET_IRQS as vfio-pci does is asked each call, too: it must refuse the same ones. */
describe('what is refused here the device would refuse, and nothing else', () => {
  const shapes = [{ intx: true, msi: 4, msix: 8, err: true, req: true, device: 2 }, { intx: true, msi: 1, msix: 3, dynamicMsix: false }, { intx: false, msi: 1 }] as const;
  const call = fc.record({
    index: fc.nat(7),
    action: fc.constantFrom<IrqAction>('trigger', 'trigger', 'mask', 'unmask'),
    data: fc.constantFrom<IrqData>('eventfd', 'eventfd', 'none', 'bool'),
    start: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.nat(9)),
    count: fc.oneof({ weight: 3, arbitrary: fc.constant(1) }, fc.nat(9)),
    away: fc.boolean(),
  });

  it('over any sequence of calls', () => {
    const seen = new Set<string>();
    fc.assert(fc.property(fc.constantFrom(...shapes), fc.array(call, { maxLength: 30 }), (shape, calls) => {
      const facts = withOwnIrq(irqFacts(shape, 'pci'), shape, 'pci', []);
      const device = new DeviceIrqs(facts, new Trace(16, () => 0n), () => false);
      const enabled = new Map<number, number>();
      for (const { index, action, data, start, count, away } of calls) {
        const fact = facts.find((one) => one.index === index);
        const fresh = (): SoftEventfd | undefined => (away ? undefined : new SoftEventfd());
        const set: IrqSet<SoftEventfd | undefined> = data === 'eventfd'
          ? { index, action, start, data, fds: Array.from({ length: count }, fresh) }
          : data === 'none' ? { index, action, start, data, count } : { index, action, start, data, vectors: Array.from({ length: count }, () => !away) };
        const flags = fact?.flags ?? 0;
        const known = info(index, { count: fact?.count ?? 0, maskable: (flags & 2) !== 0, automasked: (flags & 4) !== 0, noResize: (flags & 8) !== 0 });
        const kind = irqKind(known, true);
        const on = new Set(facts.filter((one) => (enabled.get(one.index) ?? 0) > 0).map((one) => one.kind));
        const refusal = irqRefusal(set, { kind, info: known, enabled: enabled.get(index) ?? 0, on });
        const errno = device.set(set);
        expect(refusal === undefined, JSON.stringify({ set, refusal, errno })).toBe(errno === undefined);
        if (errno === 'ENOTTY') expect(refusal?.code).toBe('VFIO_E_UNSUPPORTED');
        if (refusal === undefined) enabled.set(index, enabledAfter(set, kind, enabled.get(index) ?? 0, undefined));
        seen.add(`${kind} ${refusal?.code ?? 'taken'}`);
      }
    }), { numRuns: 2000 });
    // Not vacuous: every kind was taken and refused, for each reason that there is.
    for (const kind of ['intx', 'msi', 'msi-x', 'err', 'req', 'device']) expect(seen).toContain(`${kind} taken`);
    for (const reason of ['msi VFIO_E_UNSUPPORTED', 'intx VFIO_E_BUSY', 'msi VFIO_E_BUSY', 'msi-x VFIO_E_BUSY', 'msi-x VFIO_E_RANGE', 'req VFIO_E_NO_IRQ']) expect(seen).toContain(reason);
  });
});
