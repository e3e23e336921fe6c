import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodePrecopyQuery, notPreCopying, readPrecopyInfo } from '../../../src/devices/uapi/precopy-info.js';
import { caught, hex, survivesAnyBytes } from './bytes-helpers.js';

const answer = hex('18 00 00 00  01 00 00 00  05 00 00 00 00 00 00 80  07 00 00 00 00 00 00 00');

describe('VFIO_MIG_GET_PRECOPY_INFO', () => {
  it('asks byte by byte', () => {
    expect(encodePrecopyQuery()).toEqual(hex('18 00 00 00  00 00 00 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00'));
  });

  it('reads 64 bits of each, and flags where they were opted in to', () => {
    expect(readPrecopyInfo(answer, true)).toEqual({ initialBytes: (1n << 63n) + 5n, dirtyBytes: 7n, reinit: true });
    expect(readPrecopyInfo(answer, false)).toMatchObject({ reinit: false });
    expect(readPrecopyInfo(encodePrecopyQuery(), true)).toEqual({ initialBytes: 0n, dirtyBytes: 0n, reinit: false });
  });

  it('refuses an answer that is cut off', () => {
    expect(caught(() => readPrecopyInfo(answer.subarray(0, 20), true, 'd0'), 'VFIO_E_PROTOCOL').message).toContain('d0: VFIO_MIG_GET_PRECOPY_INFO');
  });

  it('survives any bytes', () => {
    survivesAnyBytes((bytes) => readPrecopyInfo(bytes, true), fc.constant(answer));
  });

  it('has a word for EINVAL', () => {
    expect(notPreCopying({ operation: 'x', device: 'd0' })).toMatchObject({ code: 'VFIO_E_RANGE', errno: 'EINVAL', device: 'd0' });
  });
});
