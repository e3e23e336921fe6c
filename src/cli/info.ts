import { map, type Observable } from 'rxjs';
import { withDevice } from '../devices/open.js';
import type { Area, DmaLimits } from '../devices/port.js';
import { columns } from './columns.js';
import { deviceFacts, isUnknown, type ConfigFacts, type DeviceFacts, type RegionFacts, type Unknown } from './device-facts.js';
import { parseDevice } from './devices.js';
import { pciNames } from './machine/pci-ids.js';
import type { Machine } from './machine/machine.js';
import { hex } from './pci-words.js';
import { jsonLine, type Screen } from './show.js';
import { size } from './words.js';

/** Opens a device, says what it says of itself, and closes it. Emits the exit code. Fails as `openDevice` does. Throws VFIO_E_ADDRESS. */
export function infoCommand(machine: Machine, text: string, { write, json }: Screen): Observable<number> {
  const { address } = parseDevice(text);
  return withDevice(address, deviceFacts).pipe(
    map((facts) => {
      const title = titleOf(machine, facts.config);
      write(json ? jsonLine({ ...facts, title }) : inWords(facts, title));
      return 0;
    }),
  );
}

function titleOf(machine: Machine, config: DeviceFacts['config']): string | undefined {
  if (config === undefined || isUnknown(config)) return undefined;
  return pciNames(machine)({ vendor: digits(config.vendorId, 4), device: digits(config.deviceId, 4), class: digits(config.classCode, 6) });
}

function inWords(facts: DeviceFacts, title: string | undefined): string {
  const { device, pci, reset, state, regions, irqs, config, migration, dma } = facts;
  const sections: readonly (readonly [string, string])[] = [
    ['', columns([[device, [pci ? 'PCI' : 'not PCI', reset ? 'can be reset' : 'cannot be reset', state].join(', ')], ...(title === undefined ? [] : [['', title]])])],
    ['regions', columns(regions.map(regionRow))],
    ['irqs', isUnknown(irqs) ? unknown(irqs) : irqs.length === 0 ? '  none\n' : columns(irqs.map((irq) => ['', `${irq.index}`, irq.kind, `${irq.count} ${irq.count === 1 ? 'vector' : 'vectors'}`, flagsOf(irq)]))],
    ...(config === undefined ? [] : [['config space', isUnknown(config) ? unknown(config) : configText(config)] as const]),
    ['migration', migration === undefined ? '  it cannot migrate\n' : `  version ${migration.version}: ${migration.flags.join(', ')}\n`],
    ['dma', isUnknown(dma) ? unknown(dma) : dmaText(dma)],
  ];
  return sections.map(([head, body]) => (head === '' ? body : `\n${head}\n${body}`)).join('');
}

function unknown({ error }: Unknown): string {
  return error.code === 'VFIO_E_DEPARTED' ? '  not recorded\n' : `  not known: ${error.message}\n`;
}

function regionRow({ index, name, size: bytes, readable, writable, areas, savingAreas, type }: RegionFacts): readonly string[] {
  const kind = name ?? (type === undefined ? '-' : `type ${type.type}/${type.subtype}`);
  const mapped = `${areas.length === 0 ? 'trapped only' : `mapped: ${spans(areas)}`}${savingAreas === undefined ? '' : `; while saving: ${savingAreas.length === 0 ? 'trapped only' : spans(savingAreas)}`}`;
  return ['', `${index}`, kind, size(bytes), `${readable ? 'r' : '-'}${writable ? 'w' : '-'}`, mapped];
}

function spans(areas: readonly Area[]): string {
  return areas.map(({ offset, size: bytes }) => `${hex(offset)}+${hex(bytes)}`).join(' ');
}

function flagsOf({ eventfd, maskable, automasked, noResize, remap }: Exclude<DeviceFacts['irqs'], Unknown>[number]): string {
  const flags = { eventfd, maskable, automasked, noresize: noResize };
  return [...Object.entries(flags).flatMap(([name, on]) => (on ? [name] : [])), ...(remap === undefined ? [] : [remap.subtype])].join(' ');
}

function configText({ vendorId, deviceId, subsystem, classCode, revision, kind, command, bars, capabilities, extended }: ConfigFacts): string {
  const sub = subsystem === undefined ? '' : `, subsystem ${digits(subsystem.vendorId, 4)}:${digits(subsystem.deviceId, 4)}`;
  const on = [...(command.memorySpace ? ['memory'] : []), ...(command.ioSpace ? ['io'] : []), ...(command.busMaster ? ['bus master'] : []), ...(command.intxDisable ? ['no INTx'] : [])];
  return columns([
    ['', 'ids', `${digits(vendorId, 4)}:${digits(deviceId, 4)}${sub}`],
    ['', 'class', `${digits(classCode, 6)}, revision ${digits(revision, 2)}, ${kind}`],
    ['', 'command', `${hex(command.value, 4)}${on.length === 0 ? '' : `: ${on.join(', ')}`}`],
    ...bars.map(({ index, kind: space, bits, prefetchable, address }) => ['', `BAR ${index}`, `${space}, ${bits} bits${prefetchable ? ', prefetchable' : ''}, at ${hex(address)}`]),
    ...capabilities.map(({ name, offset }) => ['', hex(offset, 2), name]),
    ...extended.map(({ name, offset, version }) => ['', hex(offset, 3), `${name}, version ${version}`]),
  ]);
}

function dmaText({ pageSizes, iovaRanges, available, dirtyPages }: DmaLimits): string {
  return columns([
    ['', 'pages', pagesOf(pageSizes)],
    ['', 'addresses', iovaRanges === undefined ? 'any' : iovaRanges.map(({ start, end }) => `${hex(start)}..${hex(end)}`).join(' ')],
    ...(available === undefined ? [] : [['', 'ranges', `${available} more`]]),
    ['', 'dirty pages', dirtyPages === undefined ? 'the IOMMU does not say' : `the IOMMU says, in pages of ${pagesOf(dirtyPages.pageSizes)}`],
  ]);
}

/** Bit n stands for pages of 2^n bytes; a machine of mdevs takes all of them. */
function pagesOf(mask: bigint): string {
  const sizes = Array.from({ length: 64 }, (_, bit) => bit).flatMap((bit) => (((mask >> BigInt(bit)) & 1n) === 1n ? [size(2 ** bit)] : []));
  return sizes.length > 4 ? `${sizes[0]} and larger` : sizes.join(', ');
}

function digits(value: number, count: number): string {
  return value.toString(16).padStart(count, '0');
}
