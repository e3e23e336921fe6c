import { IOMMU_HWPT_ALLOC_DIRTY_TRACKING, IOMMU_HWPT_DIRTY_TRACKING_ENABLE, IOMMU_HW_CAP_DIRTY_TRACKING } from './constants.js';
import type { IovaRange } from './dma.js';
import { iommuAnswer, iommuCommand } from './iommufd.js';

/** Page tables of an IOMMU (HWPT), and which pages devices wrote through one. */

/** struct iommu_hw_info, as far as this library reads it. */
export const hwInfoLayout = { size: 0, flags: 4, dev_id: 8, data_len: 12, data_uptr: 16, out_data_type: 24, out_capabilities: 32, sizeof: 40 } as const;

/** struct iommu_hwpt_alloc, up to where it ended before page faults. */
export const hwptAllocLayout = { size: 0, flags: 4, dev_id: 8, pt_id: 12, out_hwpt_id: 16, __reserved: 20, data_type: 24, data_len: 28, data_uptr: 32 } as const;

/** struct iommu_hwpt_set_dirty_tracking. */
export const hwptSetDirtyLayout = { size: 0, flags: 4, hwpt_id: 8, __reserved: 12, sizeof: 16 } as const;

/** struct iommu_hwpt_get_dirty_bitmap. */
export const hwptGetDirtyLayout = { size: 0, hwpt_id: 4, flags: 8, __reserved: 12, iova: 16, length: 24, page_size: 32, data: 40, sizeof: 48 } as const;

/** The argument of IOMMU_GET_HW_INFO, without room for what is peculiar to one kind of IOMMU. `device`: its id by VFIO_DEVICE_BIND_IOMMUFD. */
export function encodeHwInfoQuery(device: number): Uint8Array {
  const { bytes, view } = iommuCommand(hwInfoLayout.sizeof);
  view.setUint32(hwInfoLayout.dev_id, device, true);
  return bytes;
}

/** Whether the IOMMU in front of the device tracks which pages it writes. */
export function readTracksWrites(bytes: Uint8Array): boolean {
  const view = iommuAnswer(bytes, hwInfoLayout.sizeof, { operation: 'IOMMU_GET_HW_INFO' });
  return (view.getBigUint64(hwInfoLayout.out_capabilities, true) & BigInt(IOMMU_HW_CAP_DIRTY_TRACKING)) !== 0n;
}

/** The argument of IOMMU_HWPT_ALLOC: a page table that shows an IOAS to a device, and tracks what that writes. */
export function encodeTrackingHwpt(device: number, ioas: number): Uint8Array {
  const { bytes, view } = iommuCommand(hwptAllocLayout.data_uptr + 8);
  view.setUint32(hwptAllocLayout.flags, IOMMU_HWPT_ALLOC_DIRTY_TRACKING, true);
  view.setUint32(hwptAllocLayout.dev_id, device, true);
  view.setUint32(hwptAllocLayout.pt_id, ioas, true);
  return bytes;
}

/** The id of the new page table. */
export function readHwptId(bytes: Uint8Array): number {
  return iommuAnswer(bytes, hwptAllocLayout.__reserved, { operation: 'IOMMU_HWPT_ALLOC' }).getUint32(hwptAllocLayout.out_hwpt_id, true);
}

/** The argument of IOMMU_HWPT_SET_DIRTY_TRACKING. */
export function encodeDirtyTracking(hwpt: number, on: boolean): Uint8Array {
  const { bytes, view } = iommuCommand(hwptSetDirtyLayout.sizeof);
  view.setUint32(hwptSetDirtyLayout.flags, on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0, true);
  view.setUint32(hwptSetDirtyLayout.hwpt_id, hwpt, true);
  return bytes;
}

/** The argument of IOMMU_HWPT_GET_DIRTY_BITMAP. `address`: where the bitmap lies in this process, whose bits the kernel only ever sets. */
export function encodeDirtyBitmapQuery(hwpt: number, { iova, size }: IovaRange, pageSize: number, address: bigint): Uint8Array {
  const { bytes, view } = iommuCommand(hwptGetDirtyLayout.sizeof);
  view.setUint32(hwptGetDirtyLayout.hwpt_id, hwpt, true);
  view.setBigUint64(hwptGetDirtyLayout.iova, iova, true);
  view.setBigUint64(hwptGetDirtyLayout.length, BigInt(size), true);
  view.setBigUint64(hwptGetDirtyLayout.page_size, BigInt(pageSize), true);
  view.setBigUint64(hwptGetDirtyLayout.data, address, true);
  return bytes;
}
