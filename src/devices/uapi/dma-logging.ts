import { viewOf } from './bytes.js';
import { VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP } from './constants.js';
import { encodeFeature, featurePayload } from './device-feature.js';
import type { IovaRange } from './dma.js';

/** struct vfio_device_feature_dma_logging_control. */
export const dmaLoggingControlLayout = { page_size: 0, num_ranges: 8, __reserved: 12, ranges: 16, sizeof: 24 } as const;

/** struct vfio_device_feature_dma_logging_range. */
export const dmaLoggingRangeLayout = { iova: 0, length: 8, sizeof: 16 } as const;

/** struct vfio_device_feature_dma_logging_report. */
export const dmaLoggingReportLayout = { iova: 0, length: 8, page_size: 16, bitmap: 24, sizeof: 32 } as const;

/** One page of memory holds so many; the kernel takes no more in one START. */
export const maxLoggedRanges = 4096 / dmaLoggingRangeLayout.sizeof;

/** What `ranges` of START points to. */
export function encodeLoggedRanges(ranges: readonly IovaRange[]): Uint8Array {
  const bytes = new Uint8Array(ranges.length * dmaLoggingRangeLayout.sizeof);
  const view = viewOf(bytes);
  for (const [n, { iova, size }] of ranges.entries()) {
    view.setBigUint64(n * dmaLoggingRangeLayout.sizeof + dmaLoggingRangeLayout.iova, iova, true);
    view.setBigUint64(n * dmaLoggingRangeLayout.sizeof + dmaLoggingRangeLayout.length, BigInt(size), true);
  }
  return bytes;
}

/** The argument of START. `address`: where the encoded ranges lie in this process. */
export function encodeLoggingStart(pageSize: number, count: number, address: bigint): Uint8Array {
  const payload = new Uint8Array(dmaLoggingControlLayout.sizeof);
  const view = viewOf(payload);
  view.setBigUint64(dmaLoggingControlLayout.page_size, BigInt(pageSize), true);
  view.setUint32(dmaLoggingControlLayout.num_ranges, count, true);
  view.setBigUint64(dmaLoggingControlLayout.ranges, address, true);
  return encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_START, 'set', payload);
}

/** The page size that the device tracks, by the answer to START; any u64. */
export function readLoggingStart(bytes: Uint8Array, device?: string): bigint {
  const origin = { operation: 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START', device };
  return featurePayload(bytes, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, dmaLoggingControlLayout.sizeof, origin).getBigUint64(dmaLoggingControlLayout.page_size, true);
}

export function encodeLoggingStop(): Uint8Array {
  return encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 'set');
}

/** The argument of REPORT. `address`: where the bitmap lies in this process, whose bits the kernel only ever sets. */
export function encodeLoggingReport({ iova, size }: IovaRange, pageSize: number, address: bigint): Uint8Array {
  const payload = new Uint8Array(dmaLoggingReportLayout.sizeof);
  const view = viewOf(payload);
  view.setBigUint64(dmaLoggingReportLayout.iova, iova, true);
  view.setBigUint64(dmaLoggingReportLayout.length, BigInt(size), true);
  view.setBigUint64(dmaLoggingReportLayout.page_size, BigInt(pageSize), true);
  view.setBigUint64(dmaLoggingReportLayout.bitmap, address, true);
  return encodeFeature(VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, 'get', payload);
}
