import * as t from 'io-ts';
import { decodeOrThrow } from '../../codec.js';

/** Where the kernel has a device. */
export type KernelAddress =
  | { readonly kind: 'mdev'; readonly uuid: string }
  | { readonly kind: 'pci'; readonly bdf: string }
  /** A device's own file in /dev/vfio/devices: `vfio3`. */
  | { readonly kind: 'cdev'; readonly cdev: string }
  /** `device` is as VFIO_GROUP_GET_DEVICE_FD wants it; undefined: the only device of the group. */
  | { readonly kind: 'group'; readonly group: number; readonly device: string | undefined };

const uuidForm = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const bdfForm = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[01][0-9a-f]\.[0-7])$/i;
const cdevForm = /^\/dev\/vfio\/devices\/(vfio\d{1,9})$/;
const groupForm = /^group:(\d{1,9})(?:\/([\w:.-]{1,80}))?$/;

function parse(text: string): KernelAddress | undefined {
  if (uuidForm.test(text)) return { kind: 'mdev', uuid: text.toLowerCase() };
  const bdf = bdfForm.exec(text);
  if (bdf !== null) return { kind: 'pci', bdf: `${bdf[1] ?? '0000'}:${bdf[2] ?? ''}`.toLowerCase() };
  const [, cdev] = cdevForm.exec(text) ?? [];
  if (cdev !== undefined) return { kind: 'cdev', cdev };
  const group = groupForm.exec(text);
  if (group !== null) return { kind: 'group', group: Number(group[1]), device: group[2] };
  return undefined;
}

const forms = 'expected an mdev uuid, a PCI address (0000:03:00.0), /dev/vfio/devices/vfioN, group:N, group:N/DEVICE, unix:PATH (a vfio-user socket) or trace:FILE';

const KernelAddressCodec = new t.Type<KernelAddress, unknown>(
  'KernelAddress',
  (value): value is KernelAddress => typeof value === 'object' && value !== null && 'kind' in value,
  (value, context) => {
    const address = typeof value === 'string' ? parse(value) : undefined;
    return address === undefined ? t.failure(value, context, typeof value === 'string' ? forms : `${JSON.stringify(value)}: ${forms}`) : t.success(address);
  },
  (address) => address,
);

/** Fails with VFIO_E_ADDRESS, which carries the text and names the accepted forms. */
export function parseAddress(text: unknown): KernelAddress {
  return decodeOrThrow(KernelAddressCodec, text, 'VFIO_E_ADDRESS', 'open', typeof text === 'string' ? text : undefined);
}
