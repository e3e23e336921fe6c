import { VfioError } from '../../errors.js';
import type { IrqInfo } from '../uapi/irq-info.js';
import type { RegionInfo } from '../uapi/region-info.js';

/** What one signal says: that something may have changed, or, bit by bit, in which regions. */
export type SignalForm = 'doorbell' | 'bitmap';

/**
 * How the driver learns that it was served: by the sum that was read, written to a second eventfd (`value`); by a write of 0
 * or 1 to the trigger eventfd itself, as the proposal of 2020 has it; or by watching the mappings close (`none`).
 */
export type AckForm = 'value' | 'write-zero' | 'write-one' | 'none';

/** One remap irq to be registered: page p covers the regions 64p..64p+63. */
export interface RemapPage {
  readonly irqIndex: number;
  readonly page: number;
  /** The regions that may ever be signalled. */
  readonly declared: ReadonlySet<number>;
  readonly signals: SignalForm;
  readonly ack: AckForm;
  /** How long the driver waits for one ack, ms; undefined where it does not say (`rfc-v4`). */
  readonly ackTimeoutMs: number | undefined;
  /** The most waits in one device_state write. */
  readonly maxWaits: number;
}

/** How this device speaks of its layouts. `static` ones never change; `saving-layout` ones change with device_state alone. */
export type RemapAgreement =
  | { readonly profile: 'static' }
  | { readonly profile: 'saving-layout'; readonly regions: ReadonlySet<number> }
  | { readonly profile: 'rfc-v4' | 'region-remap'; readonly pages: readonly RemapPage[] };

/** The profiles that need something of the user. */
export type SpokenProfile = 'region-remap' | 'rfc-v4' | 'saving-layout';

/** What the caller may choose. */
export interface RemapWishes {
  /** Which profile is taken where the driver offers several. Default: the first of region-remap, rfc-v4, saving-layout. */
  readonly prefer?: SpokenProfile;
  /** What is written as an ack in `rfc-v4`: the wire does not say. Default `write-zero`, which has no echo. */
  readonly rfcAck?: 'write-zero' | 'write-one';
}

/** The device, as far as it matters for a profile. */
export interface RemapOffer {
  /** Every irq that it has, at whatever index. */
  readonly irqs: readonly IrqInfo[];
  /** The regions that it has. */
  readonly regions: readonly RegionInfo[];
  /** num_regions: no region stands at or beyond this index. */
  readonly regionCount: number;
}

const inOrder: readonly SpokenProfile[] = ['region-remap', 'rfc-v4', 'saving-layout'];

/** The proposal of 2020 knows BARs alone. */
const lastBar = 5;

/**
 * Chooses the profile that this device is spoken to in. Fails with VFIO_E_PROTOCOL, so that nothing is registered, where the
 * driver contradicts itself in that profile.
 */
export function negotiate(offer: RemapOffer, device: string, wishes: RemapWishes = {}): RemapAgreement {
  const { prefer } = wishes;
  const order = prefer === undefined ? inOrder : [prefer, ...inOrder];
  for (const profile of order) {
    const agreement = agreementIn(profile, offer, device, wishes);
    if (agreement !== undefined) return agreement;
  }
  return { profile: 'static' };
}

/** Whether the device has a remap irq in the form of 2020: its driver says ENODEV to device_state while that is not registered. */
export function offersRfcV4(irqs: readonly IrqInfo[]): boolean {
  return irqs.some(({ remap }) => remap?.subtype === 'rfc-v4');
}

function agreementIn(profile: SpokenProfile, offer: RemapOffer, device: string, { rfcAck = 'write-zero' }: RemapWishes): RemapAgreement | undefined {
  switch (profile) {
    case 'region-remap':
      return registering('region-remap', offer.irqs.flatMap((irq) => pageOf(irq) ?? []), offer, device);
    case 'rfc-v4':
      return registering('rfc-v4', offer.irqs.filter((irq) => irq.remap?.subtype === 'rfc-v4').map(({ index }) => rfcPage(index, offer, rfcAck)), offer, device);
    case 'saving-layout': {
      const regions = offer.regions.filter(({ savingAreas }) => savingAreas !== undefined).map(({ index }) => index);
      return regions.length === 0 ? undefined : { profile: 'saving-layout', regions: new Set(regions) };
    }
  }
}

function registering(profile: 'rfc-v4' | 'region-remap', pages: readonly RemapPage[], { regionCount }: RemapOffer, device: string): RemapAgreement | undefined {
  if (pages.length === 0) return undefined;
  const fault = (what: string): never => {
    throw new VfioError('VFIO_E_PROTOCOL', `${what}; nothing was registered: the vendor driver is at fault`, { operation: 'negotiate remap', device });
  };
  const known = new Set<number>();
  for (const { irqIndex, page, declared } of pages) {
    if (known.has(page)) fault(`two remap irqs claim page ${page}`);
    known.add(page);
    for (const region of declared) {
      if (region >= regionCount) fault(`irq ${irqIndex} declares region ${region}, but the device has ${regionCount}`);
    }
  }
  return { profile, pages: [...pages].sort((a, b) => a.page - b.page) };
}

function pageOf({ index, remap }: IrqInfo): RemapPage | undefined {
  if (remap?.subtype !== 'region-remap') return undefined;
  const { page, regions, doorbell, noAck, ackTimeoutMs, maxWaits } = remap;
  const declared = regionsOfMask(regions, page);
  return { irqIndex: index, page, declared, signals: doorbell ? 'doorbell' : 'bitmap', ack: noAck ? 'none' : 'value', ackTimeoutMs, maxWaits };
}

/** Its bits only order the work: counts add, and a driver on a kernel since 6.8 cannot add more than 1. So it is read as a doorbell. */
function rfcPage(irqIndex: number, { regions }: RemapOffer, ack: AckForm): RemapPage {
  const bars = regions.filter(({ index, size }) => index <= lastBar && size > 0).map(({ index }) => index);
  return { irqIndex, page: 0, declared: new Set(bars), signals: 'doorbell', ack, ackTimeoutMs: undefined, maxWaits: 1 };
}

function regionsOfMask(mask: bigint, page: number): ReadonlySet<number> {
  const regions = new Set<number>();
  for (let bit = 0; bit < 64; bit++) {
    if (((mask >> BigInt(bit)) & 1n) === 1n) regions.add(page * 64 + bit);
  }
  return regions;
}
