import fc from 'fast-check';
import { VfioError } from '../../../src/errors.js';

/** How many hostile payloads each reader gets; a longer run: VFIO_RX_USER_RUNS. */
export const hostileRuns = Number(process.env['VFIO_RX_USER_RUNS'] ?? 2000);

/** Valid bytes with some changed, cut off or added; and bytes that never were valid. */
export function hostile(valid: readonly Uint8Array[]): fc.Arbitrary<Uint8Array> {
  const interesting = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
  const change = fc.record({ at: fc.nat(255), value: interesting });
  const changed = fc.tuple(fc.constantFrom(...valid), fc.array(change, { maxLength: 6 }), fc.integer({ min: -16, max: 16 })).map(([bytes, changes, longer]) => {
    const result = new Uint8Array(Math.max(0, bytes.length + longer));
    result.set(bytes.subarray(0, result.length));
    for (const { at, value } of changes) if (result.length > 0) result[at % result.length] = value;
    return result;
  });
  return fc.oneof({ weight: 4, arbitrary: changed }, { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }) });
}

/** Whatever the bytes are, the reader answers, or says by a typed error that it does not take them. */
export function survives(read: (bytes: Uint8Array) => unknown, valid: readonly Uint8Array[]): void {
  const check = (bytes: Uint8Array): void => {
    try {
      read(bytes);
    } catch (error) {
      if (!VfioError.is(error) || !['VFIO_E_PROTOCOL', 'VFIO_E_UNSUPPORTED'].includes(error.code)) throw error;
    }
  };
  fc.assert(fc.property(hostile(valid), check), { numRuns: hostileRuns });
}

/** How many hostile messages a whole server and a whole client get; a longer run: VFIO_RX_USER_RUNS. */
export const hostileMessages = Number(process.env['VFIO_RX_USER_RUNS'] ?? 10_000);
