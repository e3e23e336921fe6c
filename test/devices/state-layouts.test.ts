import { EMPTY, ignoreElements, map, NEVER, tap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Area, State } from '../../src/devices/port.js';
import { layoutIn } from '../../src/devices/protocol/saving-layout.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { VfioError } from '../../src/errors.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { regions } from '../../src/streams/regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { firstPage, now, openedNow, secondPage, type Alter } from '../support/devices.js';

const reached = map(({ to }: Arc) => to);
const third = { offset: 0x2000, size: 0x1000 };

/** Region 0 has a page in both layouts, one outside the saving group only, one in it only; region 1 is as it is. */
const three: SoftwareDeviceOptions = {
  regions: [
    { index: 0, size: 0x3000, areas: [firstPage, secondPage], savingAreas: [firstPage, third] },
    { index: 1, size: 0x1000, areas: 'all', savingAreas: 'all' },
  ],
  remap: { profile: 'saving-layout', regions: 1n },
  mailbox: false,
};

/** A driver whose answers follow the state, and say beside that what the saving group offers. */
const following = (state: () => State): Alter => (port) => ({ regionInfo: (index) => port.regionInfo(index).pipe(map((info) => layoutIn(info, state()))) });

describe('a write of device_state', () => {
  for (const shows of ['the layout outside the saving group', 'the layout of the state'] as const) {
    it(`moves the mappings before it and after it, both ways, where the driver shows ${shows}`, () => {
      marbles((t) => {
        let state = (): State => 'running';
        const { device, driver } = openedNow(t.clock, three, shows === 'the layout of the state' ? following(() => state()) : undefined);
        state = () => driver.state;
        const mapped = (): readonly Area[] => device.region(0).mapped.areas;
        t.expect(remapIrq(device).pipe(remapRegions(device), map(({ channel }) => channel.profile))).toBe('<p,|>', { p: 'saving-layout' });
        t.expect(transition(device, 'pre-copy').pipe(reached), '-^').toBe('-<pre-copy,|>');
        t.at('--x', { x: () => expect(mapped()).toEqual([firstPage, third]) });
        t.expect(transition(device, 'running').pipe(reached), '---^').toBe('---<running,|>');
        t.expectDevice(device).toShow({
          state: '-<[p,]>-<[r,]>',
          unmap: '-0-0',
          map: '<0,1>0-0' });
        t.atEnd(() => expect([mapped(), driver.vmas, driver.violationList]).toEqual([[{ offset: 0, size: 0x2000 }], 3, []]));
      });
    });
  }

  it('tells the layout, and accessors use what is mapped', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, three);
      now(device.mapRegion(0));
      t.expect(regions(device).pipe(map((layouts) => layouts.get(0)?.areas.map(({ offset }) => offset / 0x1000).join() ?? ''))).toBe('a--b', { a: '0', b: '0,2' });
      t.expect(transition(device, 'pre-copy').pipe(reached), '---^').toBe('---<pre-copy,|>');
      t.at('----x', { x: () => device.region(0).write32(0x2000, 7) });
      t.atEnd(() => expect(device.region(0).read32(0x2000)).toBe(7));
    });
  });

  it('maps nothing that nobody has asked for', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, three);
      t.expect(transition(device, 'pre-copy').pipe(reached)).toBe('<pre-copy,|>');
      t.expectDevice(device).toShow({ map: '', unmap: '' });
    });
  });

  it('that fails leaves the mappings as the state has them', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, three);
      now(device.mapRegion(0));
      driver.faults.failArc('pre-copy', 'EIO');
      t.expect(transition(device, 'pre-copy'), '-^').toBe('-#', undefined, { errno: 'EIO' });
      t.atEnd(() => expect([device.region(0).mapped.areas, driver.state]).toEqual([[{ offset: 0, size: 0x2000 }], 'running']));
    });
  });
});

describe('while the write goes on', () => {
  it('no area is mapped anew: what is asked for is mapped when it is done', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, three);
      driver.faults.stallMs = 0.005;
      t.expect(transition(device, 'pre-copy').pipe(reached), '-^').toBe('------<pre-copy,|>');
      t.expect(device.mapRegion(0).pipe(map((list) => list.map(({ error }) => VfioError.is(error) && error.code))), '---^').toBe('---<x,|>', { x: ['VFIO_E_BUSY'] });
      t.expect(device.mapRegion(1).pipe(ignoreElements()), '---^').toBe('---|');
      t.atEnd(() => expect(device.region(0).mapped.areas).toEqual([firstPage, third]));
    });
  });
});

describe('a reset', () => {
  it('counts as a write of RUNNING', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, three);
      now(device.mapRegion(0));
      t.expect(transition(device, 'pre-copy').pipe(reached)).toBe('<pre-copy,|>');
      t.expect(device.reset().pipe(ignoreElements()), '--^').toBe('--|');
      t.atEnd(() => expect([driver.state, device.region(0).mapped.areas, driver.violationList]).toEqual(['running', [{ offset: 0, size: 0x2000 }], []]));
    });
  });
});

describe('a holder', () => {
  it('lets go before the write, and gets back what comes', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, three);
      now(device.mapRegion(0));
      const got: string[] = [];
      now(device.region(0).hold([{ offset: 0, size: 0x3000 }], { name: 'h', release: (areas) => timer(0.004, t.clock.scheduler).pipe(tap(() => got.push(`-${areas[0]?.offset ?? 0}`))), regain: (pieces) => { got.push(...pieces.map(({ area }) => `+${area.offset}`)); return EMPTY; } }));
      t.expect(transition(device, 'pre-copy').pipe(reached), '-^').toBe('-----<pre-copy,|>');
      t.atEnd(() => expect([got, driver.violationList]).toEqual([['+0', '-4096', '+8192'], []]));
    });
  });

  it('that does not let go is the error of the write, which is not made; the mapping is usable as before', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, three);
      now(device.mapRegion(0));
      now(device.region(0).hold([secondPage], { name: 'stuck', release: () => NEVER, regain: () => EMPTY }));
      t.expect(transition(device, 'pre-copy'), '-^').toBe('- 2500ms #', undefined, { code: 'VFIO_E_HOLDER' });
      t.expectDevice(device).toShow({ state: '' });
      t.at('- 2501ms x', { x: () => device.region(0).write32(0x1000, 1) });
    });
  });
});

describe('a driver that finds something mapped', () => {
  it('says EBUSY, and the error says what it can be', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, three);
      // Somebody else, who does not follow.
      now(device.port.map(0, secondPage));
      t.expect(transition(device, 'pre-copy')).toBe('#', undefined, expect.objectContaining({ code: 'VFIO_E_MAPPED', errno: 'EBUSY', message: expect.stringContaining('0x1000+0x1000 of region 0') as string }));
      t.expect(transition(device, 'running-p2p').pipe(reached), '--^').toBe('--<running-p2p,|>');
      t.atEnd(() => expect([driver.state, driver.vmas]).toEqual(['running-p2p', 1]));
    });
  });

  it('and is not asked about its layouts again where nothing of them follows the state', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...three, remap: false });
      now(device.mapRegion(1));
      t.expect(transition(device, 'pre-copy').pipe(reached)).toBe('<pre-copy,|>');
      t.expectDevice(device).toShow({ query: '<1>', unmap: '' });
    });
  });
});

describe('a driver that offers an irq, too', () => {
  it('has its mappings moved by the pipeline alone', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...three, remap: { regions: 1n } }, (port) => ({
        regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (index === 0 ? { ...info, savingAreas: [firstPage, third] } : info))),
      }));
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(reached), '-^').toBe('-<pre-copy,|>');
      t.expectDevice(device).toShow({ ack: '-<1,1>' });
      t.atEnd(() => expect([driver.acked, device.region(0).mapped.areas]).toEqual([2n, [firstPage, third]]));
    });
  });
});
