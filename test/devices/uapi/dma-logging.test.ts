import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeLoggedRanges, encodeLoggingReport, encodeLoggingStart, encodeLoggingStop, maxLoggedRanges, readLoggingStart } from '../../../src/devices/uapi/dma-logging.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';

describe('VFIO_DEVICE_FEATURE_DMA_LOGGING', () => {
  it('starts byte by byte, with its ranges beside', () => {
    expect(encodeLoggingStart(4096, 2, 0x7f00_0000_1000n)).toEqual(hex('20 00 00 00  06 00 02 00  00 10 00 00 00 00 00 00  02 00 00 00  00 00 00 00  00 10 00 00 00 7f 00 00'));
    expect(encodeLoggedRanges([{ iova: 0x1000n, size: 0x2000 }, { iova: 1n << 40n, size: 0x1000 }])).toEqual(
      hex('00 10 00 00 00 00 00 00  00 20 00 00 00 00 00 00  00 00 00 00 00 01 00 00  00 10 00 00 00 00 00 00'),
    );
    expect(maxLoggedRanges).toBe(256);
  });

  it('reads which page size the device chose', () => {
    expect(readLoggingStart(encodeLoggingStart(2 ** 21, 1, 0n))).toBe(0x20_0000n);
    expect(caught(() => readLoggingStart(encodeLoggingStart(4096, 1, 0n).subarray(0, 20), 'd0'), 'VFIO_E_PROTOCOL').message).toContain('d0: VFIO_DEVICE_FEATURE_DMA_LOGGING_START');
    expect(caught(() => readLoggingStart(encodeLoggingReport({ iova: 0n, size: 4096 }, 4096, 0n)), 'VFIO_E_PROTOCOL').message).toContain('feature 8 answered');
  });

  it('reports and stops byte by byte', () => {
    expect(encodeLoggingReport({ iova: 0x1000n, size: 0x2000 }, 4096, 0x7f00n)).toEqual(
      hex('28 00 00 00  08 00 01 00  00 10 00 00 00 00 00 00  00 20 00 00 00 00 00 00  00 10 00 00 00 00 00 00  00 7f 00 00 00 00 00 00'),
    );
    expect(encodeLoggingStop()).toEqual(hex('08 00 00 00  07 00 02 00'));
  });

  it('survives any bytes', () => {
    survivesAnyBytes(readLoggingStart, fc.constant(encodeLoggingStart(4096, 1, 0n)));
  });
});
