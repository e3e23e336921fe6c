import { beforeEach, describe, expect, it } from 'vitest';
import { KernelDmaLogging } from '../../../src/devices/kernel/dma-logging.js';
import { EitherLogging, HwptLogging } from '../../../src/devices/kernel/hwpt-logging.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { IOMMU_HWPT_GET_DIRTY_BITMAP, IOMMU_HWPT_SET_DIRTY_TRACKING, VFIO_DEVICE_FEATURE } from '../../../src/devices/uapi/constants.js';
import { encodeDirtyBitmapQuery, encodeDirtyTracking } from '../../../src/devices/uapi/hwpt.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { HandLanes, outcome } from './doubles.js';

const page = 4096;
const range = { iova: 0x10_0000n, size: 100 * page };

let lanes: HandLanes;
let open: boolean;
let device: KernelDmaLogging;
let iommu: HwptLogging;

beforeEach(() => {
  lanes = new HandLanes();
  open = true;
  const parts = {
    device: 'd0',
    calls: linuxSyscalls(),
    submit: (request: Parameters<ReturnType<HandLanes['lane']>['submit']>[0]) => lanes.lane('log').submit(request),
    requireOpen: (operation: string) => {
      if (!open) throw new VfioError('VFIO_E_CLOSED', 'the device is closed', { operation });
    },
  };
  device = new KernelDmaLogging({ ...parts, fd: 7 });
  iommu = new HwptLogging({ iommufd: 77, hwpt: 9 }, parts);
});

function out(): { readonly to: string; readonly argument: Uint8Array } {
  const call = lanes.running('log');
  if (call.op !== 'ioctl' || typeof call.argument === 'number') throw new Error('no ioctl with a struct is out');
  const names: Readonly<Record<number, string>> = { [IOMMU_HWPT_SET_DIRTY_TRACKING]: 'set', [IOMMU_HWPT_GET_DIRTY_BITMAP]: 'get', [VFIO_DEVICE_FEATURE]: 'feature' };
  return { to: `${call.fd} ${names[call.request] ?? ''}`, argument: call.argument };
}

const answer = (): void => { lanes.answer('log', 0, out().argument); };

describe('the log of an IOMMU', () => {
  it('is switched on, read, and switched off', () => {
    const start = outcome(iommu.start({ ranges: [range], pageSize: page }));
    expect(out()).toEqual({ to: '77 set', argument: encodeDirtyTracking(9, true) });
    answer();
    expect(start.value).toBe(page);
    const report = outcome(iommu.report({ ...range, pageSize: page }));
    const { to, argument } = out();
    const address = new DataView(argument.buffer, argument.byteOffset).getBigUint64(40, true);
    expect([to, argument]).toEqual(['77 get', encodeDirtyBitmapQuery(9, range, page, address)]);
    new Uint8Array(koffiBinding().view(Number(address), page))[12] = 0x0f;
    answer();
    expect([...(report.value ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f, 0, 0, 0]);
    outcome(iommu.stop());
    expect(out()).toEqual({ to: '77 set', argument: encodeDirtyTracking(9, false) });
    answer();
  });

  it('is one at a time; one that did not start may be started again', () => {
    const failed = outcome(iommu.start({ ranges: [range], pageSize: page }));
    expect(outcome(iommu.start({ ranges: [range], pageSize: page })).get).toBe('VFIO_E_BUSY');
    lanes.fail('log', errnoError('EOPNOTSUPP', 'IOMMU_HWPT_SET_DIRTY_TRACKING', 'd0'));
    expect(failed.get).toBe('VFIO_E_UNSUPPORTED');
    outcome(iommu.start({ ranges: [range], pageSize: page }));
    answer();
  });

  it('refuses what no log can be about, and everything once the device is closed', () => {
    expect(outcome(iommu.start({ ranges: [], pageSize: page })).get).toBe('VFIO_E_RANGE');
    expect(outcome(iommu.report({ iova: 1n, size: page, pageSize: page })).get).toBe('VFIO_E_RANGE');
    open = false;
    for (const call of [iommu.start({ ranges: [range], pageSize: page }), iommu.report({ ...range, pageSize: page }), iommu.stop()]) expect(outcome(call as never).get).toBe('VFIO_E_CLOSED');
  });
});

describe('the log of a device, or of the IOMMU in front of it', () => {
  it('is the device\'s where that keeps one', () => {
    const either = new EitherLogging(device, iommu);
    const start = outcome(either.start({ ranges: [range], pageSize: page }));
    expect(out().to).toBe('7 feature');
    answer();
    expect(start.value).toBe(page);
    outcome(either.stop());
    expect(out().to).toBe('7 feature');
    answer();
  });

  it('else the IOMMU\'s', () => {
    const either = new EitherLogging(device, iommu);
    const start = outcome(either.start({ ranges: [range], pageSize: page }));
    lanes.fail('log', errnoError('ENOTTY', 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START', 'd0'));
    expect(out().to).toBe('77 set');
    answer();
    expect(start.value).toBe(page);
    outcome(either.report({ ...range, pageSize: page }));
    expect(out().to).toBe('77 get');
    answer();
    outcome(either.stop());
    expect(out().to).toBe('77 set');
    answer();
  });

  it('is refused as the device refuses it for any other reason', () => {
    const start = outcome(new EitherLogging(device, iommu).start({ ranges: [range], pageSize: page }));
    lanes.fail('log', errnoError('ENOMEM', 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START', 'd0'));
    expect(start.get).toBe('VFIO_E_LIMIT');
  });
});
