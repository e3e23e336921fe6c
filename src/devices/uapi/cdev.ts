import { protocolError, viewOf } from './bytes.js';

/** struct vfio_device_bind_iommufd, as far as this library uses it: the token of a virtual function stands behind that. */
export const bindIommufdLayout = { argsz: 0, flags: 4, iommufd: 8, out_devid: 12 } as const;

/** struct vfio_device_attach_iommufd_pt, without the pasid. */
export const attachIommufdLayout = { argsz: 0, flags: 4, pt_id: 8 } as const;

/** struct vfio_device_detach_iommufd_pt, without the pasid. */
export const detachIommufdLayout = { argsz: 0, flags: 4 } as const;

/** The argument of VFIO_DEVICE_BIND_IOMMUFD. */
export function encodeBind(iommufd: number): Uint8Array {
  return words(bindIommufdLayout.out_devid + 4, [bindIommufdLayout.iommufd, iommufd]);
}

/** What the iommufd calls the device from now on, by the answer to VFIO_DEVICE_BIND_IOMMUFD. */
export function readBound(bytes: Uint8Array, device?: string): number {
  return idAt(bytes, bindIommufdLayout.out_devid, 'VFIO_DEVICE_BIND_IOMMUFD', device);
}

/** The argument of VFIO_DEVICE_ATTACH_IOMMUFD_PT. `pt`: an IOAS, or a page table of one. */
export function encodeAttach(pt: number): Uint8Array {
  return words(attachIommufdLayout.pt_id + 4, [attachIommufdLayout.pt_id, pt]);
}

/** The page table that the device is attached to, by the answer to VFIO_DEVICE_ATTACH_IOMMUFD_PT. */
export function readAttached(bytes: Uint8Array, device?: string): number {
  return idAt(bytes, attachIommufdLayout.pt_id, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', device);
}

/** The argument of VFIO_DEVICE_DETACH_IOMMUFD_PT. */
export function encodeDetach(): Uint8Array {
  return words(detachIommufdLayout.flags + 4);
}

function words(size: number, ...fields: readonly (readonly [offset: number, value: number])[]): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = viewOf(bytes);
  view.setUint32(0, size, true);
  for (const [offset, value] of fields) view.setUint32(offset, value, true);
  return bytes;
}

function idAt(bytes: Uint8Array, offset: number, operation: string, device: string | undefined): number {
  if (bytes.length < offset + 4) throw protocolError({ operation, device }, bytes.length, `cut off: ${bytes.length} of ${offset + 4} bytes`);
  return viewOf(bytes).getUint32(offset, true);
}
