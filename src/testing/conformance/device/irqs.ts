import type { IrqHandle, IrqInfo } from '../../../devices/port.js';
import { irqKind } from '../../../devices/protocol/irq-rules.js';
import { codeOf, settled } from '../patience.js';
import { demand, skip, type Rule } from '../rule.js';
import type { DeviceHarness, DeviceNeed } from './harness.js';
import { Opened } from './opened.js';

/** More vectors than this are not asked for: the host has to find an interrupt for each. */
const mostVectors = 32;

/**
 * Drivers have fallen over that: mtty of Linux 6.1 puts an eventfd again that it has put when the irq was disabled before, and takes a
 * loopback for a disable.
 */
const again: readonly DeviceNeed[] = ['irqs', 'destructive'];

/** What a driver promises of its irqs; the remap irqs have rules of their own. */
export const deviceIrqRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [
  {
    id: 'IRQ-1',
    title: 'every irq that it lists answers, the same when it is asked again, and none beyond',
    async check(harness) {
      const opened = await Opened.of(harness);
      const { device, port, steps } = opened;
      const words = (infos: readonly IrqInfo[]): string => infos.map(({ index, flags, count }) => `irq ${index} flags ${flags} count ${count}`).join(', ');
      const [first, second] = [words(await opened.irqs()), words(await opened.irqs())];
      demand(first === second, `it had ${first}; asked again it had ${second}`);
      await steps.fails('VFIO_E_NO_IRQ', port.irqInfo(device.info.irqs), 'an irq beyond the last');
    },
  },
  {
    id: 'IRQ-2',
    title: 'an irq takes an eventfd, and one that masks itself can be unmasked',
    async check(harness) {
      const opened = await Opened.of(harness);
      for (const { index, count, eventfd, maskable, automasked } of await opened.irqs()) {
        demand(count === 0 || eventfd, `irq ${index} has vectors, and takes no eventfd`);
        demand(!automasked || maskable, `irq ${index} masks itself (AUTOMASKED), and nobody can unmask it (no MASKABLE)`);
      }
    },
  },
  {
    id: 'IRQ-3',
    title: 'every irq takes eventfds for its vectors, and gives them back',
    needs: ['irqs'],
    async check(harness) {
      const opened = await Opened.of(harness);
      for (const info of await own(opened)) await give(opened, await take(opened, info));
    },
  },
  {
    id: 'IRQ-4',
    title: 'an irq that was given back takes other eventfds',
    needs: again,
    async check(harness) {
      const opened = await Opened.of(harness);
      for (const info of await own(opened)) {
        for (let round = 0; round < 2; round += 1) await give(opened, await take(opened, info));
      }
    },
  },
  {
    id: 'IRQ-5',
    title: 'a loopback is a signal',
    needs: again,
    async check(harness) {
      const opened = await Opened.of(harness);
      const { steps } = opened;
      let heard = 0;
      for (const info of await own(opened)) {
        const handles = await take(opened, info);
        const [first] = handles;
        const triggered = first === undefined ? undefined : await settled(steps.value(first.trigger(), `a loopback of irq ${info.index}`));
        if (first !== undefined && triggered !== undefined && 'value' in triggered) {
          const { count } = await steps.value(first.next(), `the signal of a loopback of irq ${info.index}`);
          demand(count === 1n, `one loopback of irq ${info.index} should be one signal, it was ${count}`);
          heard += 1;
        } else if (triggered !== undefined) {
          demand(codeOf(triggered) === 'VFIO_E_UNSUPPORTED' || codeOf(triggered) === 'VFIO_E_RANGE', `a loopback of irq ${info.index} failed: ${codeOf(triggered)}`);
        }
        await give(opened, handles);
      }
      if (heard === 0) skip('its driver takes no loopback');
    },
  },
  {
    id: 'IRQ-6',
    title: 'whoever opens it next finds no irq registered',
    needs: again,
    async check(harness) {
      const before = await Opened.of(harness);
      const [info] = await own(before);
      if (info === undefined) return;
      await take(before, info);
      await harness.dispose();
      const next = await Opened.of(harness);
      await give(next, await take(next, info));
    },
  },
];

/** Its irqs but those that demand remaps. */
async function own(opened: Opened): Promise<readonly IrqInfo[]> {
  const infos = (await opened.irqs()).filter((info) => info.count > 0 && info.eventfd && irqKind(info, opened.device.info.pci) !== 'remap');
  return infos.length > 0 ? infos : skip('the device has no irq of its own');
}

function take({ port, steps }: Opened, { index, count }: IrqInfo): Promise<readonly IrqHandle[]> {
  const vectors = Array.from({ length: Math.min(count, mostVectors) }, (_, vector) => vector);
  return steps.value(port.irqs(index, vectors), `the registration of irq ${index}`);
}

async function give({ steps }: Opened, handles: readonly IrqHandle[]): Promise<void> {
  for (const handle of handles) await steps.value(handle.close(), `the disabling of irq ${handle.line.index}`);
}
