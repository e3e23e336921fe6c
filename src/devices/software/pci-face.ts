import { pciCapabilityId, pciCommand, pciConfigLayout } from '../protocol/pci-capabilities.js';
import { decodesMemory, decodingRegisters } from '../protocol/pci-decoding.js';
import { VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from '../uapi/constants.js';
import type { Errno } from './errno.js';
import type { RegionMemory } from './region-memory.js';

/** What the sample driver shows: unassigned class, ids of its own. */
const header = { vendorId: 0xfeed, deviceId: 0x0b5e, classByte: 0xff } as const;
const statusCapabilityList = 1 << 4;
/** One capability, power management in its third version. */
const powerManagement = { at: 0x40, version: 3 } as const;

/**
 * Configuration space as far as it decides whether mapped memory may be touched: a header, the command register and a power
 * management capability. Real mapped memory would be SIGBUS while the device does not decode it; here it is poison, and who
 * writes to it is found out (RegionMemory).
 */
export class PciFace {
  readonly #config: RegionMemory | undefined;
  readonly #bars: readonly RegionMemory[];
  readonly #canSleep: boolean;
  #lowPower = false;
  #decodes = true;

  /** Without a region 7 of a header and its capabilities nothing is decided: memory is always decoded. */
  constructor(regions: ReadonlyMap<number, RegionMemory>, canSleep: boolean) {
    const config = regions.get(VFIO_PCI_CONFIG_REGION_INDEX);
    this.#config = config !== undefined && config.size >= pciConfigLayout.extended ? config : undefined;
    this.#bars = [...regions.values()].filter(({ index }) => index <= VFIO_PCI_BAR5_REGION_INDEX);
    this.#canSleep = canSleep;
    const bytes = new Uint8Array(powerManagement.at + 4);
    const view = new DataView(bytes.buffer);
    view.setUint16(pciConfigLayout.vendorId, header.vendorId, true);
    view.setUint16(pciConfigLayout.deviceId, header.deviceId, true);
    view.setUint8(pciConfigLayout.status, statusCapabilityList);
    view.setUint8(pciConfigLayout.classCode + 2, header.classByte);
    view.setUint8(pciConfigLayout.capabilities, powerManagement.at);
    view.setUint8(powerManagement.at, pciCapabilityId.powerManagement);
    view.setUint8(powerManagement.at + 2, powerManagement.version);
    this.#config?.write(0, bytes);
  }

  /** The kernel switches decoding on, and brings the device to D0. */
  opened(): void {
    this.#lowPower = false;
    this.#set(pciConfigLayout.command, this.#byte(pciConfigLayout.command) | pciCommand.memorySpace);
    this.reset();
  }

  /** Configuration space stays as it was, but for the power state. */
  reset(): void {
    this.#set(powerManagement.at + 4, 0);
    this.#update();
  }

  /** A trapped write to a region was made. */
  written(region: number): void {
    if (region === this.#config?.index) this.#update();
  }

  /** A region whose trapped access fails: a BAR that is not decoded. In low power an access wakes the device. */
  isOff(region: number): boolean {
    return region <= VFIO_PCI_BAR5_REGION_INDEX && !this.#decodes;
  }

  /** VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY and _EXIT. */
  lowPower(enter: boolean): Errno | undefined {
    if (!this.#canSleep) return 'ENOTTY';
    if (enter && this.#lowPower) return 'EINVAL';
    this.#lowPower = enter;
    this.#update();
    return undefined;
  }

  #update(): void {
    if (this.#config !== undefined) {
      const { command, power } = decodingRegisters(this.#config.read(0, pciConfigLayout.extended));
      this.#decodes = decodesMemory(this.#byte(command), power === undefined ? undefined : this.#byte(power));
    }
    const reachable = this.#decodes && !this.#lowPower;
    for (const bar of this.#bars) bar.reachable = reachable;
  }

  #byte(at: number): number {
    return this.#config?.read(at, 1)[0] ?? 0;
  }

  #set(at: number, value: number): void {
    this.#config?.write(at, Uint8Array.of(value));
  }
}
