import { parsePathAddress } from '../devices/address.js';
import { parseAddress } from '../devices/kernel/address.js';
import { VfioError } from '../errors.js';

/** A device as a person names it to a command; `=ALIAS` behind it is its name at the other end. */
export type DeviceName = { readonly alias: string | undefined } & (
  | { readonly kind: 'pci' | 'mdev' | 'group' | 'cdev'; readonly address: string }
  /** Served by another process at `path`, or recorded there. */
  | { readonly kind: 'vfio-user' | 'trace'; readonly address: string; readonly path: string }
  | { readonly kind: 'software'; readonly name: string | undefined; readonly options: URLSearchParams }
);

/** The forms of a name, for messages. */
export const nameForms =
  'a PCI address (0000:03:00.0), an mdev uuid, group:N, /dev/vfio/devices/vfioN, unix:PATH, trace:FILE, software or software:NAME';

const softwareForm = /^software(?::([^?=&]+)(?:\?([^=&]+=[^=&]*(?:&[^=&]+=[^=&]*)*))?)?(?:=([^=&?]+))?$/;

/** Reads a name. Throws VFIO_E_ADDRESS, which says what forms there are. */
export function parseDeviceName(text: string): DeviceName {
  const software = softwareForm.exec(text);
  if (software !== null) return { kind: 'software', name: software[1], options: new URLSearchParams(software[2] ?? ''), alias: software[3] };
  const [, address = '', alias] = /^(.*?)(?:=([^=&?]+))?$/s.exec(text) ?? [];
  const at = parsePathAddress(address);
  if (at !== undefined) return { ...at, address: `${at.kind}:${at.path}`, alias };
  try {
    return { kind: parseAddress(address).kind, address, alias };
  } catch (error) {
    throw new VfioError('VFIO_E_ADDRESS', `"${text}" names no device: ${nameForms}. What there is: vfio-rx list`, { operation: 'address', cause: error });
  }
}
