import { protocolError, viewOf, type Origin } from '../../uapi/bytes.js';

/** A view of a payload of at least `sizeof` bytes. Throws VFIO_E_PROTOCOL where there are fewer. */
export function payloadView(payload: Uint8Array, sizeof: number, origin: Origin): DataView {
  if (payload.length < sizeof) throw protocolError(origin, payload.length, `cut off: ${payload.length} of at least ${sizeof} bytes`);
  return viewOf(payload);
}

/** What follows the fixed part, which must be exactly `count` bytes. */
export function dataAfter(payload: Uint8Array, sizeof: number, count: number, origin: Origin): Uint8Array {
  if (payload.length - sizeof !== count) throw protocolError(origin, sizeof, `${payload.length - sizeof} bytes of data, where count says ${count}`);
  return payload.subarray(sizeof);
}

/** A zeroed struct of `sizeof` bytes with room for `data` behind it, which is copied there. */
export function struct(sizeof: number, data: Uint8Array = new Uint8Array(0)): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(sizeof + data.length);
  bytes.set(data, sizeof);
  return { bytes, view: viewOf(bytes) };
}
