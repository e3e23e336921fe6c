import { isDeepStrictEqual } from 'node:util';
import type { VfioDevice } from '../../../devices/device.js';
import type { DevicePort, IrqInfo, Mapping, RegionInfo } from '../../../devices/port.js';
import { offeredAreas } from '../../../devices/protocol/layout-diff.js';
import { Patience } from '../patience.js';
import { demand } from '../rule.js';
import type { DeviceHarness } from './harness.js';

/** A device and its bare port: the rules of a driver are asked without the pipeline, which would hide how it answers. */
export class Opened {
  readonly device: VfioDevice;
  readonly port: DevicePort;
  readonly steps: Patience;

  private constructor(device: VfioDevice, harness: DeviceHarness) {
    this.device = device;
    this.port = device.port;
    this.steps = new Patience(harness);
  }

  static async of(harness: DeviceHarness): Promise<Opened> {
    return new Opened(await harness.openDevice(), harness);
  }

  /** The layouts of these regions at this instant; of all that the device has where none are named. */
  async layouts(indexes: Iterable<number> = this.device.regions.keys()): Promise<readonly RegionInfo[]> {
    const infos: RegionInfo[] = [];
    for (const index of indexes) infos.push(await this.steps.value(this.port.regionInfo(index), `the layout of region ${index}`));
    return infos;
  }

  irqs(): Promise<readonly IrqInfo[]> {
    return this.steps.value(this.device.irqs(), 'the irqs');
  }

  /** Maps every area that these layouts offer. */
  async mapAll(infos: readonly RegionInfo[]): Promise<Mapping[]> {
    const mappings: Mapping[] = [];
    for (const info of infos) {
      for (const area of offeredAreas(info, info.size)) mappings.push(await this.steps.value(this.port.map(info.index, area), `the mapping of ${areaName(info.index, area)}`));
    }
    return mappings;
  }

  async unmapAll(mappings: Iterable<Mapping>): Promise<void> {
    for (const mapping of mappings) await this.steps.value(this.port.unmap(mapping), `the unmapping of ${areaName(mapping.region, mapping.area)}`);
  }
}

export function areaName(region: number, { offset, size }: { readonly offset: number; readonly size: number }): string {
  return `region ${region} 0x${offset.toString(16)}+0x${size.toString(16)}`;
}

/** Fails with the first pair that differs. */
export function demandSame<T extends { readonly index: number }>(was: readonly T[], is: readonly T[], what: string): void {
  was.forEach((one, at) => {
    demand(isDeepStrictEqual(one, is[at]), `${what} ${one.index} was ${inWords(one)}, it is ${inWords(is[at])}`);
  });
  demand(was.length === is.length, `there were ${was.length} of ${what}, there are ${is.length}`);
}

function inWords(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? `${part}` : part));
}
