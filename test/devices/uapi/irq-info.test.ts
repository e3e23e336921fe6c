import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { queryIrqInfo, readIrqInfo } from '../../../src/devices/uapi/irq-info.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';
import { irqInfo, irqType, remap, type IrqToWrite } from './encoders.js';

const capabilities = [irqType(1, 1), remap({ page: 0, flags: 1, regions: 7n, ackTimeoutMs: 1000, maxWaits: 2 })];

describe('readIrqInfo', () => {
  it("reads mainline's 16 bytes", () => {
    const bytes = hex('10 00 00 00  07 00 00 00  00 00 00 00  01 00 00 00');
    expect(readIrqInfo(bytes, 0)).toEqual({
      index: 0, flags: 7, count: 1, eventfd: true, maskable: true, automasked: true, noResize: false,
    });
  });

  it('reads a remap irq byte by byte', () => {
    const bytes = hex(`
      44 00 00 00  13 00 00 00  05 00 00 00  01 00 00 00   # argsz 68, EVENTFD | MASKABLE | CAPS, index 5, count 1
      14 00 00 00                                          # cap_offset 20
      03 00 01 00 24 00 00 00  01 00 00 00  01 00 00 00    # type capability: type 1, subtype 1, next 36
      01 ff 01 00 00 00 00 00  02 00 00 00  01 00 00 00    # remap capability: page 2, doorbell
      05 00 00 00 00 00 00 80  e8 03 00 00  03 00 00 00    # regions 0, 2 and 63 of the page, 1000 ms, 3 waits`);
    expect(readIrqInfo(bytes, 5)).toEqual({
      index: 5, flags: 19, count: 1, eventfd: true, maskable: true, automasked: false, noResize: false,
      remap: { subtype: 'region-remap', page: 2, doorbell: true, noAck: false, regions: (1n << 63n) | 5n, ackTimeoutMs: 1000, maxWaits: 3 },
    });
  });

  it('reads noResize, and irqs without eventfd', () => {
    expect(readIrqInfo(irqInfo({ index: 1, flags: 8, count: 0 }), 1)).toMatchObject({ noResize: true, eventfd: false, count: 0 });
  });

  it("refuses another irq's answer", () => {
    expect(caught(() => readIrqInfo(irqInfo({ index: 1, flags: 1, count: 1 }), 2, 'sw0'), 'VFIO_E_PROTOCOL').message)
      .toContain('sw0: VFIO_DEVICE_GET_IRQ_INFO(2): at byte 8 of the answer: irq 1 answered');
  });

  it('refuses capabilities without a cap_offset: 16 bytes are not enough', () => {
    expect(caught(() => readIrqInfo(irqInfo({ index: 1, flags: 17, count: 1 }), 1), 'VFIO_E_PROTOCOL').message).toContain('ends before byte 20');
  });

  it.each([{ flags: 2, count: 1 }, { flags: 3, count: 0 }])('refuses a remap irq that cannot be registered: %o', (irq) => {
    expect(caught(() => readIrqInfo(irqInfo({ index: 5, ...irq, capabilities }), 5), 'VFIO_E_PROTOCOL').message).toContain('cannot be registered');
  });

  it('survives any bytes', () => {
    const irq: fc.Arbitrary<IrqToWrite> = fc.record({ index: fc.nat(200), flags: fc.nat(15), count: fc.nat(3), capabilities: fc.constantFrom([], capabilities, capabilities.slice(1)) });
    survivesAnyBytes((bytes) => readIrqInfo(bytes, bytes[8] ?? 0), irq.map(irqInfo));
  });
});

describe('queryIrqInfo', () => {
  it("asks a mainline kernel, which fills 16 bytes and leaves argsz alone", () => {
    const info = queryIrqInfo(1, (buffer) => {
      expect(buffer[8]).toBe(1);
      buffer.set(irqInfo({ index: 1, flags: 9, count: 4 }).subarray(4), 4);
    });
    expect(info).toMatchObject({ index: 1, count: 4, noResize: true });
    expect(info).not.toHaveProperty('remap');
  });

  it('asks a driver with a chain', () => {
    const answer = irqInfo({ index: 5, flags: 3, count: 1, capabilities });
    expect(queryIrqInfo(5, (buffer) => buffer.set(answer)).remap).toMatchObject({ subtype: 'region-remap', regions: 7n });
  });

  it('refuses an index that is no u32 before the kernel is asked', () => {
    caught(() => queryIrqInfo(1.5, () => expect.fail('asked')), 'VFIO_E_RANGE');
  });
});
