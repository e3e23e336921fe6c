import { VfioError } from '../../errors.js';
import type { MigrationTraits } from '../port.js';
import { normalizeAreas } from '../protocol/areas.js';
import { migrationFlags } from '../protocol/migration-states.js';
import { VFIO_PCI_NUM_REGIONS, VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED, VFIO_REGION_TYPE_MIGRATION_DEPRECATED } from '../uapi/constants.js';
import type { Area } from '../uapi/region-info.js';
import { irqFacts, withOwnIrq, type IrqFact, type SoftwareIrqs } from './device-irqs.js';
import { mayChange, shapeOfRemap, type RemapShape, type SoftwareRemap } from './remap-shape.js';
import { v1RegionShape } from './v1-registers.js';

/** One region of a software device. Sizes and offsets in bytes; areas are whole pages. */
export interface SoftwareRegion {
  readonly index: number;
  readonly size: number;
  /** Default: both. */
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** What may be mapped outside the saving group: all of it as one area, sparse areas, or nothing (default). */
  readonly areas?: 'all' | readonly Area[];
  /** What may be mapped in the saving group. Default: the same as outside. */
  readonly savingAreas?: 'all' | readonly Area[];
}

export interface SoftwareDeviceOptions {
  /** How messages name the device. Default `software0`. */
  readonly name?: string;
  /** Default: `sampleRegions`. */
  readonly regions?: readonly SoftwareRegion[];
  /** Region indexes run below this. Default: 9, or as many as `regions` needs. */
  readonly numRegions?: number;
  /** False: a device whose layouts never change. */
  readonly remap?: SoftwareRemap | false;
  /** What it has beside its remap irqs. */
  readonly irqs?: SoftwareIrqs;
  /** `non-pci`: one irq of its own at index 0, the remap irq at index 1. Default `pci`. */
  readonly face?: 'pci' | 'non-pci';
  /** VFIO_MIGRATION_* flags. Default 7; false: a device that cannot migrate. */
  readonly migration?: number | false;
  /** It can sleep (VFIO_DEVICE_FEATURE_LOW_POWER_*). Default: false, as the sample driver. */
  readonly lowPower?: boolean;
  /** The smallest page that its log of written pages tracks, bytes (VFIO_DEVICE_FEATURE_DMA_LOGGING_*). Default: false, it keeps none, as the sample driver. */
  readonly dmaLogging?: number | false;
  /**
   * 1: device_state is a word in a migration region, behind the other regions (index 9 or more), as the proposal of 2020 knew it;
   * the states are those of flags 5. Default 2.
   */
  readonly migrationVersion?: 1 | 2;
  /** The region whose slots take deliveries. Default 0 where that region exists; false: none. */
  readonly mailbox?: number | false;
  /** How often mapped mailbox memory is looked at, ms. Default: 1 on a real clock, false on a virtual one, which would
   *  otherwise never run out of work; unmap and the reading of `driver.mailbox` look in any case. */
  readonly scanMs?: number | false;
  /** How many events the trace keeps. Default 4,096. */
  readonly traceEvents?: number;
}

/** The regions of the sample vendor driver. */
export const sampleRegions: readonly SoftwareRegion[] = [
  { index: 0, size: 0x1_0000, areas: 'all', savingAreas: [] },
  {
    index: 1,
    size: 0x2_0000,
    areas: [{ offset: 0, size: 0x8000 }, { offset: 0x1_0000, size: 0x8000 }],
    savingAreas: [{ offset: 0, size: 0x8000 }],
  },
  { index: 2, size: 0x1000 },
  { index: 7, size: 0x100 },
];

/** The granularity of map and unmap, bytes. */
export const pageSize = 4096;

/** Where `raiseMsi` adds: the MSI irq of a PCI function, the only irq of another. */
const ownIrqIndex = { pci: 1, 'non-pci': 0 } as const;
/** Where the remap irq stands, unless it is told. */
const firstFreeIrq = { pci: 5, 'non-pci': 1 } as const;
const fewestIrqs = { pci: 6, 'non-pci': 1 } as const;

/** Options with every default filled in. */
export interface DeviceShape {
  readonly name: string;
  readonly regions: ReadonlyMap<number, RegionShape>;
  readonly numRegions: number;
  readonly numIrqs: number;
  readonly face: 'pci' | 'non-pci';
  /** The irq that is the device's own. */
  readonly ownIrq: number;
  readonly irqs: readonly IrqFact[];
  readonly remap: RemapShape | undefined;
  /** Flags 0 where the device cannot migrate. */
  readonly migration: MigrationTraits;
  readonly lowPower: boolean;
  readonly dmaLogging: number | undefined;
  /** Where the migration region of v1 stands, if there is one. */
  readonly migrationRegion: number | undefined;
  readonly mailbox: number | undefined;
  readonly scanMs: number | false | undefined;
  readonly traceEvents: number;
}

export interface RegionShape {
  readonly index: number;
  readonly type?: { readonly type: number; readonly subtype: number };
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly areas: readonly Area[];
  readonly savingAreas: readonly Area[];
}

/** Throws VFIO_E_RANGE where the options describe no device that could be. */
export function shapeOf(options: SoftwareDeviceOptions): DeviceShape {
  const name = options.name ?? 'software0';
  const refuse = (what: string): never => {
    throw new VfioError('VFIO_E_RANGE', what, { operation: 'softwareDevice', device: name });
  };
  const regions = new Map<number, RegionShape>();
  for (const region of options.regions ?? sampleRegions) {
    if (!Number.isInteger(region.index) || region.index < 0) refuse(`region index ${region.index} is no index`);
    if (regions.has(region.index)) refuse(`region ${region.index} is described twice`);
    regions.set(region.index, shapeOfRegion(region, refuse));
  }
  const highest = Math.max(-1, ...regions.keys());
  const numRegions = options.numRegions ?? Math.max(9, highest + 1);
  if (numRegions <= highest) refuse(`numRegions is ${numRegions}, but there is a region ${highest}`);
  const face = options.face ?? 'pci';
  const changing = [...regions.values()].filter(({ areas, savingAreas }) => areas.length + savingAreas.length > 0).map(({ index }) => index);
  const defined = irqFacts(options.irqs ?? {}, face);
  const remap = options.remap === false ? undefined : shapeOfRemap(options.remap ?? {}, { changing, taken: defined.map(({ index }) => index), defaultIndex: firstFreeIrq[face], refuse });
  const irqs = withOwnIrq(defined, options.irqs ?? {}, face, remap?.pages ?? []);
  const mailbox = options.mailbox ?? 0;
  const migration: MigrationTraits = { version: options.migrationVersion ?? 2, flags: migrationOf(options) };
  const migrationRegion = migration.version === 1 && migration.flags !== 0 ? Math.max(VFIO_PCI_NUM_REGIONS, highest + 1) : undefined;
  if (migrationRegion !== undefined) regions.set(migrationRegion, shapeOfMigrationRegion(migrationRegion));
  return {
    name,
    // Only what was declared may change: any other region's layout is the same in every state.
    regions: new Map([...regions].map(([index, region]) => [index, mayChange(remap, index) ? region : { ...region, savingAreas: region.areas }])),
    numRegions: Math.max(numRegions, (migrationRegion ?? 0) + 1),
    numIrqs: Math.max(fewestIrqs[face], ...(remap?.pages ?? []).map(({ irqIndex }) => irqIndex + 1), ...irqs.map(({ index }) => index + 1)),
    face,
    ownIrq: ownIrqIndex[face],
    irqs,
    remap,
    lowPower: options.lowPower ?? false,
    dmaLogging: options.dmaLogging === false ? undefined : options.dmaLogging,
    migration,
    migrationRegion,
    mailbox: mailbox !== false && regions.has(mailbox) ? mailbox : undefined,
    scanMs: options.scanMs,
    traceEvents: options.traceEvents ?? 4096,
  };
}

function migrationOf({ migration, migrationVersion }: SoftwareDeviceOptions): number {
  if (migration === false) return 0;
  return migrationVersion === 1 ? migrationFlags.stopCopy | migrationFlags.preCopy : (migration ?? 7);
}

/** Its layout is the same in every state: it carries the states. */
function shapeOfMigrationRegion(index: number): RegionShape {
  const { size, areas } = v1RegionShape;
  const type = { type: VFIO_REGION_TYPE_MIGRATION_DEPRECATED, subtype: VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED };
  return { index, type, size, readable: true, writable: true, areas, savingAreas: areas };
}

function shapeOfRegion(region: SoftwareRegion, refuse: (what: string) => never): RegionShape {
  const { index, size } = region;
  if (!Number.isSafeInteger(size) || size <= 0) refuse(`region ${index} has size ${size}`);
  const areasOf = (areas: 'all' | readonly Area[]): readonly Area[] => {
    const list = areas === 'all' ? [{ offset: 0, size }] : areas;
    for (const area of list) {
      if (area.offset % pageSize !== 0 || area.size % pageSize !== 0) refuse(`region ${index}: area 0x${area.offset.toString(16)}+0x${area.size.toString(16)} is not made of pages of ${pageSize} bytes`);
      if (area.offset < 0 || area.size <= 0 || area.offset + area.size > size) refuse(`region ${index}: area 0x${area.offset.toString(16)}+0x${area.size.toString(16)} is not inside its ${size} bytes`);
    }
    return normalizeAreas(list);
  };
  const areas = areasOf(region.areas ?? []);
  return {
    index,
    size,
    readable: region.readable ?? true,
    writable: region.writable ?? true,
    areas,
    savingAreas: region.savingAreas === undefined ? areas : areasOf(region.savingAreas),
  };
}
