import { of, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { IrqInfo, RemapCapability } from '../../src/devices/uapi/irq-info.js';
import { explainRefusal, type AtRefusal } from '../../src/devices/state-refusals.js';
import { errnoError, VfioError } from '../../src/errors.js';
import { now } from '../support/devices.js';

const irq = (index: number, remap?: RemapCapability): IrqInfo => ({ index, flags: 1, count: 1, eventfd: true, maskable: false, automasked: false, noResize: true, ...(remap === undefined ? {} : { remap }) });
const proposal = [irq(0), irq(5, { subtype: 'rfc-v4' })];
const gone = errnoError('ENODEV', 'device_state pre-copy', 'dev0');
const explained = (error: unknown, at: Partial<AtRefusal> = {}): unknown => now(explainRefusal(error, { device: 'dev0', registered: false, irqs: of(proposal), mapped: () => undefined, ...at }));

describe('explainRefusal', () => {
  it('takes ENODEV of a driver of 2020 for a refusal where its irq is not registered', () => {
    expect(explained(gone)).toMatchObject({ code: 'VFIO_E_REFUSED', errno: 'ENODEV', operation: 'device_state pre-copy', device: 'dev0', cause: gone });
  });

  it('takes it for a vanished device where the irq is registered, where no such irq is there, and where nobody answers', () => {
    expect(explained(gone, { registered: true })).toBe(gone);
    expect(explained(gone, { irqs: of([irq(0)]) })).toBe(gone);
    expect(explained(gone, { irqs: throwError(() => errnoError('ENODEV', 'VFIO_DEVICE_GET_IRQ_INFO(0)', 'dev0')) })).toBe(gone);
  });

  it('says that the device was closed where that took the irq away', () => {
    const closed = new VfioError('VFIO_E_CLOSED', 'closed', { operation: 'VFIO_DEVICE_GET_IRQ_INFO(0)' });
    expect(explained(gone, { irqs: throwError(() => closed) })).toMatchObject({ code: 'VFIO_E_CLOSED', operation: 'device_state pre-copy', cause: gone });
  });

  it('says what may still be mapped where the driver found something, if that can be', () => {
    const busy = errnoError('EBUSY', 'device_state pre-copy', 'dev0');
    const mapped = new VfioError('VFIO_E_MAPPED', 'mapped', { operation: 'x' });
    expect(explained(busy, { mapped: (error) => (error === busy ? mapped : undefined) })).toBe(mapped);
    expect(explained(busy)).toBe(busy);
  });

  it('leaves every other error as it is, and asks nothing', () => {
    const asked = throwError(() => new Error('asked'));
    for (const error of [errnoError('EPERM', 'x', 'dev0'), new VfioError('VFIO_E_DEADLINE', 'late', { operation: 'x' }), new Error('another')]) {
      expect(explained(error, { irqs: asked })).toBe(error);
    }
  });
});
