import { EMPTY, ignoreElements, map, NEVER, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { errnoError } from '../../src/errors.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { codeOf, firstPage, now, openedNow, secondPage, twoRegions, whole } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';
import { everyWidth, throughEveryWidth, widths } from '../support/widths.js';

const options = { ...twoRegions, regions: [...(twoRegions.regions ?? []), { index: 4, size: 0x100 }, { index: 5, size: 0x100, writable: false }, { index: 6, size: 0x100, readable: false }] };

describe('accessors', () => {
  for (const way of ['trapped', 'mapped'] as const) {
    it(`${way}: every width, little-endian, aligned, inside the region`, () => {
      const { device, driver } = openedNow(virtualClock(), options, (port) => ({ accessNow: (request) => { trapped += 1; return port.accessNow(request); } }));
      let trapped = 0;
      if (way === 'mapped') now(device.mapRegion(0));
      const region = device.region(0);
      expect(throughEveryWidth(region, 0x100, (offset, bytes) => [...driver.readRegion(0, offset, bytes)])).toEqual(everyWidth);
      expect(trapped).toBe(way === 'mapped' ? 0 : 8);
      for (const { bytes, read, write } of widths) {
        const roundTrip = (offset: number): void => {
          write(region, offset);
          read(region, offset);
        };
        const last = 0x2000 - bytes;
        expect(() => roundTrip(last)).not.toThrow();
        for (const offset of [-bytes, last + bytes, last + 1, 0x2000, 2 ** 53, NaN, 0.5, Infinity]) expect(codeOf(() => roundTrip(offset)), `${bytes} at ${offset}`).toBe('VFIO_E_RANGE');
        if (bytes > 1) expect(codeOf(() => roundTrip(bytes / 2)), `${bytes} misaligned`).toBe('VFIO_E_RANGE');
      }
    });
  }

  it('say what they may not do', () => {
    const { device } = openedNow(virtualClock(), options);
    expect(() => device.region(5).write8(0, 1)).toThrow(/software0: write region 5: 1 bytes at offset 0: the region is not writable/);
    expect(() => device.region(6).read64(8)).toThrow(/read region 6: .*the region is not readable/);
    expect(() => device.region(4).read32(2)).toThrow(/offset must be a multiple of 4/);
    expect(() => device.region(4).read32(0x100)).toThrow(/the region has 256 bytes/);
    expect(codeOf(() => device.region(3))).toBe('VFIO_E_NO_REGION');
  });

  it('survive remaps: the same region object, whatever is mapped', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({ accessNow: (request) => { trapped += 1; return port.accessNow(request); } }));
      let trapped = 0;
      const region = device.region(0);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.at('-w-r-w-s-w', { w: () => { region.write32(16, region.read32(16) + 1); }, r: () => driver.revoke(0), s: () => driver.restore(0) });
      t.atEnd(() => {
        expect(region.read32(16)).toBe(3);
        expect(trapped).toBe(2);
        expect(driver.violations).toBe(0);
      });
    });
  });

  it('would block while device_state is being written and the area is trapped; a mapped one goes on, request() always', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...options, remap: false });
      driver.faults.arcLatencyUs = 8;
      now(device.mapRegion(0));
      t.expect(transition(device, 'pre-copy').pipe(ignoreElements()), '-^').toBe('---------|');
      t.at('x--y------z', {
        x: () => device.region(1).write32(0, 7),
        y: () => {
          expect(() => device.region(1).read32(0)).toThrow(/VFIO_E_WOULD_BLOCK/);
          expect(() => device.region(1).write32(0, 8)).toThrow(/use request\(\)/);
          device.region(0).write32(0, 5);
          expect(device.region(0).read32(0)).toBe(5);
        },
        z: () => expect(device.region(1).read32(0)).toBe(7),
      });
      t.expect(device.region(1).request({ offset: 0, readBytes: 4 }).pipe(map((bytes) => bytes[0])), '---^').toBe('---<7,|>', { 7: 7 });
    });
  });

  it('would block where the port needs a round trip', () => {
    const { device } = openedNow(virtualClock(), twoRegions, (port) => ({ traits: { ...port.traits, syncAccess: false } }));
    expect(codeOf(() => device.region(0).read8(0))).toBe('VFIO_E_WOULD_BLOCK');
    now(device.mapRegion(0));
    expect(device.region(0).read8(0)).toBe(0);
  });

  it('go on within the size that the region was opened with, though a driver says that it grew', () => {
    let size = 0x100;
    const { device } = openedNow(virtualClock(), options, (port) => ({ regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (index === 4 ? { ...info, size } : info))) }));
    size = 0x200;
    now(device.mapRegion(4));
    expect(codeOf(() => device.region(4).read8(0x100))).toBe('VFIO_E_RANGE');
    expect(device.region(4).size).toBe(0x100);
    size = 0x80;
    now(device.mapRegion(4));
    expect(codeOf(() => device.region(4).read8(0x80))).toBe('VFIO_E_RANGE');
  });
});

describe('request', () => {
  it('reads and writes bulk, and checks before it asks', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, options);
      const region = device.region(4);
      t.expect(region.request({ offset: 3, write: Uint8Array.of(1, 2, 3) }).pipe(map((answer) => answer.length))).toBe('<0,|>', { 0: 0 });
      t.expect(region.request({ offset: 2, readBytes: 5 }).pipe(map((bytes) => [...bytes].join())), '-^').toBe('-<b,|>', { b: '0,1,2,3,0' });
      for (const bad of [{ offset: 0xfe, readBytes: 3 }, { offset: 0, readBytes: 0 }, { offset: -1, readBytes: 1 }, { offset: 0 }]) t.expect(region.request(bad)).toBe('#', undefined, { code: 'VFIO_E_RANGE' });
      t.atEnd(() => expect([...driver.readRegion(4, 3, 3)]).toEqual([1, 2, 3]));
    });
  });
});

describe('hold', () => {
  it('hands out what is mapped now, and later what comes', () => {
    const { device } = openedNow(virtualClock(), twoRegions);
    const region = device.region(0);
    const given: unknown[] = [];
    now(region.attach([firstPage]));
    now(region.hold([whole], { name: 'h', release: () => EMPTY, regain: (pieces) => { given.push(...pieces.map(({ area }) => area)); return EMPTY; } }));
    now(region.attach([secondPage]));
    now(region.offer(10));
    expect(given).toEqual([firstPage, secondPage]);
  });

  it('that its holder does not take within the budget is none, and what it was given is asked back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(0));
      let asked = 0;
      const hold$ = device.region(0).hold([whole], { name: 'slow', release: () => { asked += 1; return EMPTY; }, regain: () => NEVER }, 2);
      t.expect(hold$).toBe('2ms #', undefined, { code: 'VFIO_E_HOLDER', operation: 'holder slow regain' });
      t.at('3ms x', { x: () => { driver.revoke(0); now(device.region(0).revoke([whole], 1)); } });
      t.atEnd(() => expect(asked).toBe(1));
    });
  });

  it('given back is not asked for any more', () => {
    const { device } = openedNow(virtualClock(), twoRegions);
    now(device.mapRegion(0));
    const hold = now(device.region(0).hold([whole], { name: 'gone', release: () => NEVER, regain: () => EMPTY }));
    now(hold.release());
    now(device.region(0).revoke([whole], 1));
    expect(device.region(0).mapped.areas).toEqual([]);
  });
});

describe('an area that is refused when it is mapped', () => {
  it('since a newer layout has come is no error: the signal of that is on its way', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions, (port) => ({ map: (region, area) => { if (overtakes) driver.revoke(0); return port.map(region, area); } }));
      let overtakes = false;
      const notMapped = remapIrq(device).pipe(remapRegions(device), map(({ notMapped: list }) => `${list.length}`));
      t.at('--r--s', { r: () => driver.revoke(0), s: () => { driver.restore(0); overtakes = true; } });
      // The batch of the restoration meets a layout that has been revoked again; the next one has nothing to do.
      t.expect(notMapped).toBe('0-0--<0,0>');
      t.expectDevice(device).toShow({ unmap: '--0', ack: '--1--<1,1>' });
    });
  });

  it('although the layout offers it is reported, and stays trapped', () => {
    const { device } = openedNow(virtualClock(), twoRegions, () => ({ map: (region) => throwError(() => errnoError('EINVAL', `mmap region ${region}`)) }));
    expect(now(device.mapRegion(0)).map(({ index, area }) => [index, area])).toEqual([[0, whole]]);
  });
});
