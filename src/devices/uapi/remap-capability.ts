import { protocolError, type Origin } from './bytes.js';
import { capabilityView, findCapability, type Capability } from './capabilities.js';
import {
  VFIO_REGION_REMAP_CAP,
  VFIO_REGION_REMAP_CAP_TYPE,
  VFIO_REGION_REMAP_CAP_TYPE_VERSION,
  VFIO_REGION_REMAP_CAP_VERSION,
  VFIO_REGION_REMAP_FLAG_DOORBELL,
  VFIO_REGION_REMAP_FLAG_NO_ACK,
  VFIO_REGION_REMAP_IRQ_SUBTYPE,
  VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4,
  VFIO_REGION_REMAP_IRQ_TYPE,
} from './constants.js';

/** struct vfio_region_remap_cap_type. */
export const irqTypeLayout = { header: 0, type: 8, subtype: 12, sizeof: 16 } as const;

/** struct vfio_region_remap_cap. */
export const remapCapLayout = {
  header: 0,
  page: 8,
  flags: 12,
  regions: 16,
  ack_timeout_ms: 24,
  max_waits: 28,
  sizeof: 32,
} as const;

/** The 2020 proposal. It says no more than that it is there. */
export interface RfcV4Capability {
  readonly subtype: 'rfc-v4';
}

/** struct vfio_region_remap_cap of `vfio_region_remap.h`, rules RR-1, RR-3, RR-4 and RR-11. */
export interface RegionRemapCapability {
  readonly subtype: 'region-remap';
  /** The irq covers regions 64 x page to 64 x page + 63. */
  readonly page: number;
  /** Each signal adds 1; without it a bitmap is added. */
  readonly doorbell: boolean;
  /** No ack is written: the driver watches the mappings close. */
  readonly noAck: boolean;
  /** Which regions may ever be signalled: bit b is region 64 x page + b. */
  readonly regions: bigint;
  /** How long the driver waits for one ack, ms; at least 1. */
  readonly ackTimeoutMs: number;
  /** The most waits in one write of device_state; at least 1. */
  readonly maxWaits: number;
}

export type RemapCapability = RfcV4Capability | RegionRemapCapability;

/**
 * Finds out whether an irq is a remap irq, from its chain. Types, subtypes and versions that are not known here are no
 * remap irq: an old user of a new driver goes on without (the driver then refuses what needs it).
 * Throws VFIO_E_PROTOCOL where the driver breaks rule RR-1 or RR-4.
 */
export function readRemapCapability(capabilities: readonly Capability[], origin: Origin): RemapCapability | undefined {
  const type = findCapability(capabilities, VFIO_REGION_REMAP_CAP_TYPE, origin);
  if (type?.version !== VFIO_REGION_REMAP_CAP_TYPE_VERSION) return undefined;
  const view = capabilityView(type, irqTypeLayout.sizeof, origin);
  if (view.getUint32(irqTypeLayout.type, true) !== VFIO_REGION_REMAP_IRQ_TYPE) return undefined;
  switch (view.getUint32(irqTypeLayout.subtype, true)) {
    case VFIO_REGION_REMAP_IRQ_SUBTYPE_RFC_V4:
      return { subtype: 'rfc-v4' };
    case VFIO_REGION_REMAP_IRQ_SUBTYPE:
      return readRegionRemap(type, capabilities, origin);
    default:
      return undefined;
  }
}

function readRegionRemap(type: Capability, capabilities: readonly Capability[], origin: Origin): RegionRemapCapability | undefined {
  const capability = findCapability(capabilities, VFIO_REGION_REMAP_CAP, origin);
  if (capability === undefined) throw protocolError(origin, type.offset, 'the type says region-remap, but the remap capability is missing (RR-1)');
  if (capability.version !== VFIO_REGION_REMAP_CAP_VERSION) return undefined;
  const view = capabilityView(capability, remapCapLayout.sizeof, origin);
  const fail = (offset: number, what: string): never => {
    throw protocolError(origin, capability.offset + offset, `${what} (RR-4)`);
  };
  const flags = view.getUint32(remapCapLayout.flags, true);
  const unknown = flags & ~(VFIO_REGION_REMAP_FLAG_DOORBELL | VFIO_REGION_REMAP_FLAG_NO_ACK);
  if (unknown !== 0) fail(remapCapLayout.flags, `unknown remap flags 0x${(unknown >>> 0).toString(16)}`);
  const ackTimeoutMs = view.getUint32(remapCapLayout.ack_timeout_ms, true);
  if (ackTimeoutMs === 0) fail(remapCapLayout.ack_timeout_ms, 'ack_timeout_ms is 0');
  const maxWaits = view.getUint32(remapCapLayout.max_waits, true);
  if (maxWaits === 0) fail(remapCapLayout.max_waits, 'max_waits is 0');
  return {
    subtype: 'region-remap',
    page: view.getUint32(remapCapLayout.page, true),
    doorbell: (flags & VFIO_REGION_REMAP_FLAG_DOORBELL) !== 0,
    noAck: (flags & VFIO_REGION_REMAP_FLAG_NO_ACK) !== 0,
    regions: view.getBigUint64(remapCapLayout.regions, true),
    ackTimeoutMs,
    maxWaits,
  };
}
