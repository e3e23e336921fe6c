import { VfioError } from '../../errors.js';
import type { IrqInfo } from '../uapi/irq-info.js';

/** One remap irq to be registered: page p covers the regions 64p..64p+63. */
export interface RemapPage {
  readonly irqIndex: number;
  readonly page: number;
  /** The regions that may ever be signalled. */
  readonly declared: ReadonlySet<number>;
  /** How long the driver waits for one ack, ms. */
  readonly ackTimeoutMs: number;
  /** The most waits in one device_state write. */
  readonly maxWaits: number;
}

/** How this device speaks of its layouts: `static` ones never change. */
export type RemapAgreement =
  | { readonly profile: 'static' }
  | { readonly profile: 'region-remap'; readonly pages: readonly RemapPage[] };

/**
 * Reads out of the irqs which profile the device offers. Fails, so that nothing is registered, where the driver contradicts
 * itself (VFIO_E_PROTOCOL), or offers only rows that this version does not speak (VFIO_E_UNSUPPORTED).
 *
 * @param irqs every irq that the device has, at whatever index
 */
export function negotiate(irqs: readonly IrqInfo[], regionCount: number, device: string): RemapAgreement {
  const operation = 'negotiate remap';
  const pages = new Map<number, RemapPage>();
  const notSpoken: string[] = [];
  // A driver that offers both forms is spoken to in the newer one.
  const preferred = irqs.some((irq) => irq.remap?.subtype === 'region-remap');
  for (const irq of irqs) {
    const { remap } = irq;
    if (remap === undefined || (remap.subtype === 'rfc-v4' && preferred)) continue;
    if (remap.subtype !== 'region-remap' || !remap.doorbell || remap.noAck) {
      notSpoken.push(`irq ${irq.index} (${remap.subtype}${remap.subtype === 'region-remap' ? `, ${remap.doorbell ? 'doorbell' : 'bitmap'}, ${remap.noAck ? 'no ack' : 'value ack'}` : ''})`);
      continue;
    }
    if (pages.has(remap.page)) {
      throw new VfioError('VFIO_E_PROTOCOL', `two remap irqs claim page ${remap.page}; nothing was registered: the vendor driver is at fault`, { operation, device });
    }
    const declared = regionsOfMask(remap.regions, remap.page);
    for (const region of declared) {
      if (region >= regionCount) {
        throw new VfioError('VFIO_E_PROTOCOL', `irq ${irq.index} declares region ${region}, but the device has ${regionCount}; nothing was registered: the vendor driver is at fault`, { operation, device });
      }
    }
    pages.set(remap.page, { irqIndex: irq.index, page: remap.page, declared, ackTimeoutMs: remap.ackTimeoutMs, maxWaits: remap.maxWaits });
  }
  if (notSpoken.length > 0) {
    throw new VfioError('VFIO_E_UNSUPPORTED', `the driver wants a form of the remap protocol that this version does not speak: ${notSpoken.join(', ')}; nothing was registered`, { operation, device });
  }
  if (pages.size === 0) return { profile: 'static' };
  return { profile: 'region-remap', pages: [...pages.values()].sort((a, b) => a.page - b.page) };
}

function regionsOfMask(mask: bigint, page: number): ReadonlySet<number> {
  const regions = new Set<number>();
  for (let bit = 0; bit < 64; bit++) {
    if (((mask >> BigInt(bit)) & 1n) === 1n) regions.add(page * 64 + bit);
  }
  return regions;
}
