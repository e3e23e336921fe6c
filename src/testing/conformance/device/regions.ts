import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../../devices/uapi/constants.js';
import { demand, skip, type Rule } from '../rule.js';
import type { DeviceHarness, DeviceNeed } from './harness.js';
import { areaName, demandSame, Opened } from './opened.js';

/** What a driver promises of its regions. None is written to; but for configuration space none is read: registers may mind. */
export const regionRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [
  {
    id: 'REGION-1',
    title: 'every region that it lists answers, the same when it is asked again, and none beyond',
    async check(harness) {
      const { device, port, steps, layouts } = bound(await Opened.of(harness));
      demandSame(await layouts(), await layouts(), 'region');
      await steps.fails('VFIO_E_NO_REGION', port.regionInfo(device.info.regions), 'the layout of a region beyond the last');
    },
  },
  {
    id: 'REGION-2',
    title: 'every area that it offers can be mapped, and mapped again when it was given back',
    async check(harness) {
      const opened = await Opened.of(harness);
      for (let round = 0; round < 2; round += 1) {
        const mappings = await opened.mapAll(await opened.layouts());
        if (mappings.length === 0) skip('the device offers nothing to map');
        await opened.unmapAll(mappings);
      }
    },
  },
  {
    id: 'REGION-3',
    title: 'a page of an area can be mapped alone',
    async check(harness) {
      const { port, steps, layouts } = bound(await Opened.of(harness));
      const { pageSize } = port.traits;
      const large = (await layouts()).flatMap(({ index, mmappable, areas }) => (mmappable ? areas : []).filter(({ size }) => size >= 2 * pageSize).map((area) => ({ index, area })));
      if (large.length === 0) skip('the device offers no area of several pages');
      for (const { index, area } of large) {
        const page = { offset: area.offset + area.size - pageSize, size: pageSize };
        const mapping = await steps.value(port.map(index, page), `the mapping of ${areaName(index, page)}`);
        await steps.value(port.unmap(mapping), 'its unmapping');
      }
    },
  },
  {
    id: 'REGION-4',
    title: 'configuration space names the function, and says the same by bytes and by words',
    async check(harness) {
      const { device, port, steps } = await Opened.of(harness);
      if (!device.info.pci || !device.regions.has(VFIO_PCI_CONFIG_REGION_INDEX)) skip('it is no PCI function');
      const read = (offset: number, readBytes: number): Promise<Uint8Array> => steps.value(port.access({ region: VFIO_PCI_CONFIG_REGION_INDEX, offset, readBytes }), `configuration space 0x${offset.toString(16)}`);
      const words = await read(0, 4);
      const bytes: number[] = [];
      for (let offset = 0; offset < 4; offset += 1) bytes.push(...await read(offset, 1));
      demand(bytes.join() === words.join(), `vendor and device are ${words.join()} read as one word, and ${bytes.join()} read as bytes`);
      demand(words[0] !== 0xff || words[1] !== 0xff, 'its vendor is 0xffff: nobody answers');
    },
  },
  {
    id: 'REGION-5',
    title: 'a reset leaves regions and irqs as they were',
    async check(harness) {
      const opened = await Opened.of(harness);
      if (!opened.device.info.reset) skip('the device has no reset');
      const [regions, irqs] = [await opened.layouts(), await opened.irqs()];
      await opened.steps.value(opened.port.reset(), 'the reset');
      demandSame(regions, await opened.layouts(), 'region');
      demandSame(irqs, await opened.irqs(), 'irq');
    },
  },
  {
    id: 'REGION-6',
    title: 'whoever opens it next can map all that the one before had mapped',
    async check(harness) {
      const before = await Opened.of(harness);
      const layouts = await before.layouts();
      if ((await before.mapAll(layouts)).length === 0) skip('the device offers nothing to map');
      await harness.dispose();
      const next = await Opened.of(harness);
      demandSame(layouts, await next.layouts(), 'region');
      await next.mapAll(layouts);
    },
  },
];

function bound(opened: Opened): Pick<Opened, 'device' | 'port' | 'steps' | 'layouts'> {
  const { device, port, steps } = opened;
  return { device, port, steps, layouts: () => opened.layouts() };
}
