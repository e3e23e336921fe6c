import { isDeepStrictEqual } from 'node:util';
import { VFIO_PCI_CONFIG_REGION_INDEX } from '../../../devices/uapi/constants.js';
import type { RegionInfo } from '../../../devices/port.js';
import { layoutIn } from '../../../devices/protocol/saving-layout.js';
import { codeOf } from '../patience.js';
import { demand, skip, type Rule } from '../rule.js';
import type { DeviceHarness, DeviceNeed } from './harness.js';
import { demandSame } from './opened.js';
import { RemapUser, type Heard, type Write } from './remap-user.js';

/** A check with a user that serves remaps by hand, and that is back in RUNNING when the device is closed. */
function serving(make: (harness: DeviceHarness) => Promise<RemapUser>, check: (user: RemapUser) => Promise<void> | void): (harness: DeviceHarness) => Promise<void> {
  return async (harness) => {
    const user = await make(harness);
    try {
      await check(user);
    } finally {
      await user.leave();
    }
  };
}

const withIrq = (check: (user: RemapUser) => Promise<void>): ((harness: DeviceHarness) => Promise<void>) => serving((harness) => RemapUser.registered(harness), check);

/** A write into STOP_COPY that waits for this user, by what it said. */
async function demanded(user: RemapUser): Promise<{ readonly write: Write; readonly heard: Heard }> {
  const write = user.write('stop-copy');
  const heard = await user.heardOr(write.outcome);
  if (heard === undefined) {
    const found = codeOf(await write.outcome);
    demand(found === 'success', `device_state stop-copy ended with ${found}, and nothing had been signalled`);
    return skip('it takes nothing back on the way into STOP_COPY');
  }
  return { write, heard };
}

const areasOf = (infos: readonly RegionInfo[]): readonly unknown[] => infos.map(({ index, areas, mmappable }) => [index, mmappable ? areas : []]);
const sizesOf = (infos: readonly RegionInfo[]): readonly { readonly index: number; readonly size: number }[] => infos.map(({ index, size }) => ({ index, size }));

/** What a driver promises that changes the layout of its regions: by the remap irq of vfio_region_remap.h, or by saving layouts. */
export const remapRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [
  {
    id: 'REMAP-1',
    title: 'what its remap irqs declare is there, and no two are about the same',
    check: serving((harness) => RemapUser.of(harness), (user) => {
      const { device } = user.opened;
      for (const { declared, irqIndex } of user.pages) {
        for (const region of declared) demand(device.regions.has(region), `irq ${irqIndex} declares region ${region}, which the device does not have`);
      }
    }),
  },
  {
    id: 'REMAP-2',
    title: 'a way into the saving group is refused while the irq is not registered, and changes nothing',
    check: serving((harness) => RemapUser.of(harness), async (user) => {
      if (user.pages.length === 0) skip('its layouts change without an irq');
      const before = await user.layouts();
      const write = user.write('stop-copy');
      demand('error' in await write.outcome, 'the write should have been refused: nobody is there who could be asked');
      demandSame(before, await user.layouts(), 'region');
      const state = await user.steps.value(user.port.getState(), 'the state');
      demand(state === 'running', `it was refused, and the device is in ${state}`);
    }),
  },
  {
    id: 'REMAP-3',
    title: 'what it takes back it signals, and waits until the user has acked',
    check: withIrq(async (user) => {
      const { write, heard } = await demanded(user);
      if (heard.page.ack !== 'none') await user.letGo();
      await user.watch();
      write.waits(heard.page.ack === 'none' ? 'with mappings of what was taken back' : 'before the ack');
      await user.letGo();
      await user.ack(heard);
      await user.serve(write);
      await write.succeeds();
    }),
  },
  {
    id: 'REMAP-4',
    title: 'the new layout is there before its signal, and stays',
    check: withIrq(async (user) => {
      const { write, heard } = await demanded(user);
      const told = await user.layouts();
      demand((await user.letGo()) > 0 || user.pages.length > 1, 'it signalled, and all that was offered is offered still');
      await user.ack(heard);
      await user.serve(write);
      await write.succeeds();
      if (user.pages.length === 1) demand(isDeepStrictEqual(areasOf(await user.layouts()), areasOf(told)), 'the layout has changed again since the signal');
    }),
  },
  {
    id: 'REMAP-5',
    title: 'a signal names declared regions alone, and each that it takes areas of',
    check: withIrq(async (user) => {
      if (user.pages.every(({ signals }) => signals === 'doorbell')) skip('its signals name no region');
      const before = await user.layouts();
      const { write, heard } = await demanded(user);
      const { page, count } = heard;
      const bits = [...page.declared].reduce((sum, region) => sum + (1n << BigInt(region % 64)), 0n);
      const changed = (await user.layouts()).filter((info, at) => page.declared.has(info.index) && !isDeepStrictEqual(areasOf([info]), areasOf(before.slice(at, at + 1))));
      const meant = changed.reduce((sum, { index }) => sum + (1n << BigInt(index % 64)), 0n);
      demand((count & ~bits) === 0n, `a count of ${count} has bits of regions that are not declared`);
      demand((count & meant) === meant, `a count of ${count} does not name region ${changed.map(({ index }) => index).join(', ')}`);
      await user.letGo();
      await user.ack(heard);
      await user.serve(write);
    }),
  },
  {
    id: 'REMAP-6',
    title: 'an ack of what was never sent ends no wait',
    needs: ['destructive'],
    check: withIrq(async (user) => {
      const { write, heard } = await demanded(user);
      if (heard.page.ack !== 'value') skip('its acks carry no number');
      await user.letGo();
      await user.ack({ ...heard, count: 1n << 62n });
      await user.watch();
      write.waits('by an ack of what was never sent');
      await user.ack(heard);
      await user.serve(write);
      await write.succeeds();
    }),
  },
  {
    id: 'REMAP-7',
    title: 'a wait that nobody acks ends by its timeout: state and layouts are as before, and that is signalled',
    check: withIrq(async (user) => {
      const longest = Math.max(...user.pages.map(({ ackTimeoutMs }) => ackTimeoutMs ?? Infinity));
      if (longest > user.steps.ms / 2) skip(longest === Infinity ? 'it does not say how long it waits' : `it waits ${longest} ms, too long for a patience of ${user.steps.ms}`);
      const before = await user.layouts();
      const { write } = await demanded(user);
      await write.fails('VFIO_E_ACK_TIMEOUT', 'when nobody acks');
      demandSame(before, await user.layouts(), 'region');
      const state = await user.steps.value(user.port.getState(), 'the state');
      demand(state === 'running', `the write has failed, and the device is in ${state}`);
      await user.heard();
    }),
  },
  {
    id: 'REMAP-8',
    title: 'taking the irq away ends the wait, and all is as before',
    check: withIrq(async (user) => {
      const before = await user.layouts();
      const { write, heard } = await demanded(user);
      await user.disable(heard.page);
      await write.fails('VFIO_E_CANCELED', 'when its irq is disabled');
      demandSame(before, await user.layouts(), 'region');
    }),
  },
  {
    id: 'REMAP-9',
    title: 'every other call goes on while it waits',
    check: withIrq(async (user) => {
      const { device, port, steps } = user.opened;
      const trapped = async (): Promise<void> => {
        if (device.info.pci && device.regions.has(VFIO_PCI_CONFIG_REGION_INDEX)) await steps.value(port.access({ region: VFIO_PCI_CONFIG_REGION_INDEX, offset: 0, readBytes: 4 }), 'a trapped read');
      };
      // A port may have a thread to start for each of two calls at a time, and the driver does not wait for that.
      await Promise.all([steps.value(port.getState(), 'the state'), trapped()]);
      const { write, heard } = await demanded(user);
      await steps.value(port.info(), 'info while it waits');
      await user.opened.layouts();
      await user.opened.irqs();
      await trapped();
      write.waits('while other calls were made');
      await user.letGo();
      await user.ack(heard);
      await user.serve(write);
      await write.succeeds();
    }),
  },
  {
    id: 'REMAP-10',
    title: 'the way back offers again what was taken, waits for nobody, and no size has changed',
    check: serving((harness) => RemapUser.of(harness), async (user) => {
      if (user.pages.length > 0) await user.register();
      const before = await user.layouts();
      const there = user.write('stop-copy');
      if (user.pages.length > 0) await user.serve(there);
      await there.succeeds();
      demandSame(sizesOf(before), sizesOf(await user.layouts()), 'the size of region');
      await user.write('running').succeeds();
      demandSame(before, await user.layouts(), 'region');
    }),
  },
  {
    id: 'REMAP-11',
    title: 'with saving layouts a mapping in the way refuses the state, and nothing changes',
    check: serving((harness) => RemapUser.of(harness), async (user) => {
      if (user.agreement.profile !== 'saving-layout') skip('it has no saving layouts');
      const before = await user.layouts();
      const conflicts = before.some((info) => !isDeepStrictEqual(areasOf([info]), areasOf([layoutIn(info, 'stop-copy')])));
      if (!conflicts) skip('the same is offered while it saves');
      await user.mapAll();
      const outcome = await user.write('stop-copy').outcome;
      demand('error' in outcome, 'areas were mapped that the target does not offer: the write should have been refused');
      demand(codeOf(outcome) === 'VFIO_E_BUSY', `a mapping in the way should be VFIO_E_BUSY, it is ${codeOf(outcome)}`);
      demandSame(before, await user.layouts(), 'region');
    }),
  },
  {
    id: 'REMAP-12',
    title: 'with saving layouts the saving group offers what was said before',
    check: serving((harness) => RemapUser.of(harness), async (user) => {
      if (user.agreement.profile !== 'saving-layout') skip('it has no saving layouts');
      const said = (await user.layouts()).map((info) => layoutIn(info, 'stop-copy'));
      await user.write('stop-copy').succeeds();
      const mappings = await user.opened.mapAll(said);
      await user.opened.unmapAll(mappings);
    }),
  },
];
