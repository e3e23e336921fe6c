import * as t from 'io-ts';
import { decodeOrThrow } from '../../../codec.js';
import { VfioError } from '../../../errors.js';
import { protocolError, viewOf } from '../../uapi/bytes.js';
import { maxDataBytes, maxMessageFds } from './header.js';

export const versionLayout = { major: 0, minor: 2, json: 4, sizeof: 4 } as const;

/** Both sides of VERSION together stay below this: a reply of more than 214 bytes is refused by QEMU. */
const maxJsonBytes = 4096;

const operation = 'vfio-user VERSION';
const origin = { operation };

/** What one side can take; whatever it leaves out has the protocol's default. */
export interface Capabilities {
  /** fds that it takes with one message. */
  readonly maxFds: number;
  /** The largest `count` that it takes, bytes. */
  readonly maxDataBytes: number;
  readonly maxDmaMaps: number;
  /** Bit n: pages of 2^n bytes in DMA_MAP. */
  readonly pageSizes: number;
  /** It takes REGION_WRITE_MULTI. */
  readonly writeMultiple: boolean;
  /** It speaks the region-remap protocol over this connection. An extension of this library, `"vfio_rx": {"remap": 1}`; used where both sides say so. */
  readonly remap: boolean;
}

/** What the protocol's text says of a side that says nothing. */
export const defaultCapabilities: Capabilities = { maxFds: 1, maxDataBytes, maxDmaMaps: 65_535, pageSizes: 4096, writeMultiple: false, remap: false };

/** VERSION, in both directions. */
export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly capabilities: Capabilities;
}

/** 0.0: what QEMU speaks. Nothing of a later minor is used here. */
export const ownVersion: Version = {
  major: 0,
  minor: 0,
  capabilities: { maxFds: maxMessageFds, maxDataBytes, maxDmaMaps: 65_535, pageSizes: 4096, writeMultiple: true, remap: true },
};

const count = (least: number, most: number): t.Type<number> =>
  new t.Type(
    `a whole number from ${least} to ${most}`,
    t.number.is,
    (value, context) => (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most ? t.success(value) : t.failure(value, context, `expected a whole number from ${least} to ${most}`)),
    t.identity,
  );

const codec = t.partial({
  capabilities: t.partial({
    max_msg_fds: count(0, 1024),
    max_data_xfer_size: count(1, Number.MAX_SAFE_INTEGER),
    max_dma_maps: count(0, Number.MAX_SAFE_INTEGER),
    pgsizes: count(1, Number.MAX_SAFE_INTEGER),
    write_multiple: t.boolean,
    vfio_rx: t.partial({ remap: count(0, Number.MAX_SAFE_INTEGER) }),
  }),
});

/** Writes the payload. The JSON ends with the NUL that the protocol wants. */
export function encodeVersion({ major, minor, capabilities }: Version): Uint8Array {
  const json = JSON.stringify({
    capabilities: {
      max_msg_fds: capabilities.maxFds,
      max_data_xfer_size: capabilities.maxDataBytes,
      max_dma_maps: capabilities.maxDmaMaps,
      pgsizes: capabilities.pageSizes,
      ...(capabilities.writeMultiple ? { write_multiple: true } : {}),
      ...(capabilities.remap ? { vfio_rx: { remap: 1 } } : {}),
    },
  });
  const text = new TextEncoder().encode(`${json}\0`);
  const bytes = new Uint8Array(versionLayout.sizeof + text.length);
  const view = viewOf(bytes);
  view.setUint16(versionLayout.major, major, true);
  view.setUint16(versionLayout.minor, minor, true);
  bytes.set(text, versionLayout.json);
  return bytes;
}

/**
 * Reads the payload. Throws VFIO_E_PROTOCOL where it is cut off, its JSON is none or says what cannot be, and VFIO_E_UNSUPPORTED for
 * another major version.
 */
export function readVersion(bytes: Uint8Array): Version {
  if (bytes.length < versionLayout.sizeof) throw protocolError(origin, bytes.length, `cut off: ${bytes.length} of at least ${versionLayout.sizeof} bytes`);
  const view = viewOf(bytes);
  const major = view.getUint16(versionLayout.major, true);
  const minor = view.getUint16(versionLayout.minor, true);
  if (major !== ownVersion.major) throw new VfioError('VFIO_E_UNSUPPORTED', `the other side speaks version ${major}.${minor}, this library ${ownVersion.major}.${ownVersion.minor}`, origin);
  return { major, minor, capabilities: readCapabilities(bytes.subarray(versionLayout.json)) };
}

function readCapabilities(text: Uint8Array): Capabilities {
  if (text.length === 0) return defaultCapabilities;
  if (text.length > maxJsonBytes) throw protocolError(origin, versionLayout.json, `${text.length} bytes of JSON, at most ${maxJsonBytes} are read`);
  if (text.at(-1) !== 0) throw protocolError(origin, versionLayout.json + text.length, 'the JSON does not end with a NUL');
  const body = text.subarray(0, -1);
  if (body.length === 0) return defaultCapabilities;
  const { capabilities: said = {} } = decodeOrThrow(codec, parse(body), 'VFIO_E_PROTOCOL', operation);
  return {
    maxFds: said.max_msg_fds ?? defaultCapabilities.maxFds,
    maxDataBytes: Math.min(said.max_data_xfer_size ?? defaultCapabilities.maxDataBytes, maxDataBytes),
    maxDmaMaps: said.max_dma_maps ?? defaultCapabilities.maxDmaMaps,
    pageSizes: said.pgsizes ?? defaultCapabilities.pageSizes,
    writeMultiple: said.write_multiple ?? defaultCapabilities.writeMultiple,
    remap: (said.vfio_rx?.remap ?? 0) >= 1,
  };
}

function parse(text: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch {
    throw protocolError(origin, versionLayout.json, 'the capabilities are no JSON');
  }
}
