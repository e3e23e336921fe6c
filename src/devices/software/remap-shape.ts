/** The remap protocol's side of a software device's options: which profile, on which irqs, about which regions. */
export interface SoftwareRemap {
  /** Default `region-remap`. `saving-layout` has no irq: layouts change with device_state only, and it refuses what conflicts. */
  readonly profile?: 'region-remap' | 'rfc-v4' | 'saving-layout';
  /** region-remap only; default `doorbell`. (rfc-v4 adds bits and means by them that something changed.) */
  readonly signals?: 'doorbell' | 'bitmap';
  /** region-remap only; default `value`. */
  readonly ack?: 'value' | 'none';
  /** Of page 0; page p stands p further on. Default 5, with the non-PCI face 1. */
  readonly irqIndex?: number;
  /** The regions that may ever be signalled, and so change; bit b is region b, also beyond 63. Default: those that have areas (rfc-v4: of the first 6). */
  readonly regions?: bigint;
  /** How long one wait lasts, ms. Default 500. Infinity (rfc-v4 only, as posted): until it is acked or cancelled. */
  readonly ackTimeoutMs?: number;
  /** The most waits of one page in one write of device_state; with more than one the regions are revoked one after the other. Default 1. */
  readonly maxWaits?: number;
}

/** The same with every default filled in. */
export interface RemapShape extends Required<SoftwareRemap> {
  /** None in profile saving-layout. */
  readonly pages: readonly PageShape[];
}

/** One irq, about 64 regions. */
export interface PageShape {
  readonly page: number;
  readonly irqIndex: number;
  /** Bit b is region 64 x page + b. */
  readonly regions: bigint;
}

/** What of the device the options must fit to. */
export interface RemapSurroundings {
  /** Those that have areas, in some state. */
  readonly changing: readonly number[];
  /** Where the device's own irqs stand. */
  readonly taken: readonly number[];
  readonly defaultIndex: number;
  readonly refuse: (what: string) => never;
}

const pageBits = 64;
const pageMask = 2n ** 64n - 1n;
/** rfc-v4 knows the six BARs of a PCI function. */
const bars = 6;

export function mayChange(remap: RemapShape | undefined, region: number): boolean {
  return remap !== undefined && ((remap.regions >> BigInt(region)) & 1n) === 1n;
}

/** A layout that changes with device_state alone is never signalled. */
export function maySignal(remap: RemapShape | undefined, region: number): boolean {
  return remap?.profile !== 'saving-layout' && mayChange(remap, region);
}

export function shapeOfRemap(remap: SoftwareRemap, { changing, taken, defaultIndex, refuse }: RemapSurroundings): RemapShape {
  const profile = remap.profile ?? 'region-remap';
  const known = profile === 'rfc-v4' ? changing.filter((index) => index < bars) : changing;
  const shape = {
    profile,
    signals: remap.signals ?? 'doorbell',
    ack: remap.ack ?? 'value',
    irqIndex: remap.irqIndex ?? defaultIndex,
    regions: remap.regions ?? known.reduce((bits, index) => bits | (1n << BigInt(index)), 0n),
    ackTimeoutMs: remap.ackTimeoutMs ?? 500,
    maxWaits: remap.maxWaits ?? 1,
  };
  const pages = profile === 'saving-layout' ? [] : pagesOf(shape.regions, shape.irqIndex);
  const clash = pages.find(({ irqIndex }) => taken.includes(irqIndex));
  if (!Number.isInteger(shape.irqIndex) || shape.irqIndex < 0 || clash !== undefined) refuse(`the remap irq cannot stand at index ${clash?.irqIndex ?? shape.irqIndex}`);
  if (profile === 'rfc-v4' && shape.regions >> BigInt(bars) !== 0n) refuse(`rfc-v4 signals regions 0 to ${bars - 1} only`);
  if (!(shape.ackTimeoutMs > 0) || (shape.ackTimeoutMs === Infinity && profile !== 'rfc-v4')) refuse('ackTimeoutMs must be more than 0 and finite: every wait has a bound');
  if (!(shape.maxWaits >= 1)) refuse('maxWaits must be at least 1');
  return { ...shape, pages };
}

/** A page without a region has no irq; a device that has nothing to signal still shows page 0. */
function pagesOf(regions: bigint, irqIndex: number): readonly PageShape[] {
  const pages: PageShape[] = [];
  for (let page = 0; regions >> BigInt(page * pageBits) !== 0n; page += 1) {
    const bits = (regions >> BigInt(page * pageBits)) & pageMask;
    if (bits !== 0n) pages.push({ page, irqIndex: irqIndex + page, regions: bits });
  }
  return pages.length > 0 ? pages : [{ page: 0, irqIndex, regions: 0n }];
}

/** The page that signals a region, and the region's bit there. */
export function bitOf(region: number): { readonly page: number; readonly bit: bigint } {
  return { page: Math.floor(region / pageBits), bit: 1n << BigInt(region % pageBits) };
}
