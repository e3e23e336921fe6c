import { catchError, concatMap, forkJoin, map, of, throwError, type Observable } from 'rxjs';
import type { VfioDevice } from '../devices/device.js';
import type { Area, Call, DmaLimits, IrqInfo, RegionInfo, State } from '../devices/port.js';
import { irqKind, type IrqKind } from '../devices/protocol/irq-rules.js';
import { migrationFlags } from '../devices/protocol/migration-states.js';
import type { PciConfig } from '../devices/protocol/pci-config.js';
import { VFIO_REGION_TYPE_MIGRATION_DEPRECATED } from '../devices/uapi/constants.js';
import { VfioError } from '../errors.js';
import { capabilityName, extendedCapabilityName, pciRegionName } from './pci-words.js';

/** A part that could not be asked for: why. */
export interface Unknown {
  readonly error: VfioError;
}

export interface RegionFacts {
  readonly index: number;
  readonly name: string | undefined;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** What may be mapped. */
  readonly areas: readonly Area[];
  /** What may be mapped while saving, where the driver says so (profile saving-layout). */
  readonly savingAreas: readonly Area[] | undefined;
  readonly type: RegionInfo['type'];
}

export interface ConfigFacts extends Omit<PciConfig, 'capabilities' | 'extended'> {
  readonly capabilities: readonly { readonly name: string; readonly id: number; readonly offset: number }[];
  readonly extended: readonly { readonly name: string; readonly id: number; readonly offset: number; readonly version: number }[];
}

/** All that a device says of itself, without changing anything of it. */
export interface DeviceFacts {
  readonly device: string;
  readonly pci: boolean;
  readonly reset: boolean;
  readonly state: State;
  readonly regions: readonly RegionFacts[];
  readonly irqs: readonly (IrqInfo & { readonly kind: IrqKind })[] | Unknown;
  /** undefined: it is no PCI device. */
  readonly config: ConfigFacts | Unknown | undefined;
  /** undefined: it cannot migrate. */
  readonly migration: { readonly version: 1 | 2; readonly flags: readonly string[] } | undefined;
  readonly dma: DmaLimits | Unknown;
}

/** Asks a device for all of it. What it does not say is said to be unknown, and why. */
export function deviceFacts(device: VfioDevice): Call<DeviceFacts> {
  const { info, port, config, migration } = device;
  const pci = info.pci;
  return forkJoin({ irqs: tried(device.irqs()), config: config === undefined ? of(undefined) : tried(config.read()) }).pipe(
    concatMap((found) => tried(port.dmaLimits()).pipe(map((dma) => ({ ...found, dma })))),
    map(({ irqs, config: space, dma }) => ({
      device: device.name,
      pci,
      reset: info.reset,
      state: device.currentState.state,
      regions: [...device.layoutsNow.values()].map((region) => regionFacts(region, pci)),
      irqs: isUnknown(irqs) ? irqs : irqs.filter(({ count }) => count > 0).map((irq) => ({ ...irq, kind: irqKind(irq, pci) })),
      config: space === undefined || isUnknown(space) ? space : configFacts(space),
      migration: migration === undefined ? undefined : { version: migration.version, flags: flagNames(migration.flags) },
      dma,
    })),
  );
}

export function isUnknown(part: object): part is Unknown {
  return 'error' in part;
}

function tried<T>(call: Observable<T>): Observable<T | Unknown> {
  return call.pipe(catchError((error: unknown) => (VfioError.is(error) ? of<Unknown>({ error }) : throwError(() => error))));
}

function regionFacts({ index, size, readable, writable, mmappable, areas, savingAreas, type }: RegionInfo, pci: boolean): RegionFacts {
  const migration = type?.type === VFIO_REGION_TYPE_MIGRATION_DEPRECATED ? 'migration' : undefined;
  return { index, name: (pci ? pciRegionName(index) : undefined) ?? migration, size, readable, writable, areas: mmappable ? areas : [], savingAreas, type };
}

function configFacts({ capabilities, extended, ...config }: PciConfig): ConfigFacts {
  return { ...config, capabilities: capabilities.map((one) => ({ name: capabilityName(one.id), ...one })), extended: extended.map((one) => ({ name: extendedCapabilityName(one.id), ...one })) };
}

function flagNames(flags: number): readonly string[] {
  const names = { stopCopy: 'STOP_COPY', p2p: 'P2P', preCopy: 'PRE_COPY' } as const;
  return Object.entries(migrationFlags).flatMap(([name, bit]) => ((flags & bit) === 0 ? [] : [names[name as keyof typeof names]]));
}
