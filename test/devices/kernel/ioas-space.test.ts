import { beforeEach, describe, expect, it } from 'vitest';
import { IoasSpace } from '../../../src/devices/kernel/ioas-space.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import type { LaneRequest } from '../../../src/devices/linux/lane-request.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { IOMMU_IOAS_IOVA_RANGES, IOMMU_IOAS_MAP, IOMMU_IOAS_UNMAP } from '../../../src/devices/uapi/constants.js';
import { encodeIoasMap, encodeIoasUnmap } from '../../../src/devices/uapi/iommufd.js';
import { errnoError } from '../../../src/errors.js';
import { fields } from '../uapi/bytes-helpers.js';
import { HandLanes, outcome } from './doubles.js';

const range = { iova: 0x10_0000n, size: 0x2000 };
const { pageSize } = koffiBinding();

let lanes: HandLanes;
let space: IoasSpace;

beforeEach(() => {
  lanes = new HandLanes();
  space = new IoasSpace(77, 2, linuxSyscalls());
});

const caller = { device: 'd0', submit: (request: LaneRequest) => lanes.lane('dma').submit(request) };

function out(): { readonly request: number; readonly argument: Uint8Array; readonly view: DataView } {
  const call = lanes.running('dma');
  if (call.op !== 'ioctl' || typeof call.argument === 'number' || call.fd !== 77) throw new Error('no ioctl with a struct is out');
  return { request: call.request, argument: call.argument, view: new DataView(call.argument.buffer, call.argument.byteOffset) };
}

describe('the addresses of an IOAS', () => {
  it('are mapped and unmapped by the structs of iommufd', () => {
    const mapped = outcome(space.map({ ...range, vaddr: 0x7f00n, read: true, write: false }, caller));
    expect([out().request, out().argument]).toEqual([IOMMU_IOAS_MAP, encodeIoasMap(2, { ...range, vaddr: 0x7f00n, read: true, write: false })]);
    lanes.answer('dma', 0, out().argument);
    expect(mapped.get).toBe('done');
    const unmapped = outcome(space.unmap(range, caller));
    expect([out().request, out().argument]).toEqual([IOMMU_IOAS_UNMAP, encodeIoasUnmap(2, range)]);
    lanes.answer('dma', 0, out().argument);
    expect(unmapped.value).toBe(0x2000);
  });

  it('where nothing is 0 bytes go; any other failure is one', () => {
    const nothing = outcome(space.unmap(range, caller));
    lanes.fail('dma', errnoError('ENOENT', 'IOMMU_IOAS_UNMAP', 'd0'));
    expect(nothing.value).toBe(0);
    const busy = outcome(space.unmap(range, caller));
    lanes.fail('dma', errnoError('EBUSY', 'IOMMU_IOAS_UNMAP', 'd0'));
    expect(busy.get).toBe('VFIO_E_BUSY');
  });

  /** The kernel writes ranges where the argument points to. */
  const answer = (count: number): void => {
    const { request, view } = out();
    expect([request, view.getUint32(8, true)]).toEqual([IOMMU_IOAS_IOVA_RANGES, pageSize / 16]);
    const memory = new Uint8Array(koffiBinding().view(Number(view.getBigUint64(16, true)), pageSize));
    memory.set(fields(['u64', 0], ['u64', 0xfedf_ffffn], ['u64', 0xfef0_0000n], ['u64', 2n ** 39n - 1n]));
    lanes.answer('dma', 0, fields(['u32', 32], ['u32', 2], ['u32', count], ['u32', 0], ['u64', 0], ['u64', 4096]));
  };

  it('are read from memory that the kernel is pointed to', () => {
    const limits = outcome(space.limits(caller));
    answer(2);
    expect(limits.value).toMatchObject({ pageSizes: 4096n, iovaRanges: [{ start: 0n, end: 0xfedf_ffffn }, { start: 0xfef0_0000n, end: 2n ** 39n - 1n }] });
    const lie = outcome(space.limits(caller));
    answer(pageSize);
    expect(lie.get).toBe('VFIO_E_PROTOCOL');
  });

  it('are asked for again with more room, up to a bound', () => {
    const limits = outcome(space.limits(caller));
    const rooms: number[] = [];
    while (limits.get === 'open') {
      rooms.push(out().view.getUint32(8, true) * 16);
      lanes.fail('dma', errnoError('EMSGSIZE', 'IOMMU_IOAS_IOVA_RANGES', 'd0'));
    }
    expect(rooms).toEqual([4096, 8192, 16_384, 32_768, 65_536]);
    expect(limits.get).toBe('VFIO_E_IO');
  });
});
