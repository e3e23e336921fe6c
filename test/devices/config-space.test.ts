import { ignoreElements, map } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { marbles } from '../../src/testing/index.js';
import { codeOf, now, openedNow, twoRegions } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

const options: SoftwareDeviceOptions = { ...twoRegions, regions: [...(twoRegions.regions ?? []), { index: 7, size: 0x100 }] };

describe('configuration space', () => {
  it('is read and parsed', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, options);
      const read$ = device.config?.read().pipe(map(({ vendorId, capabilities }) => [vendorId, capabilities]));
      t.expect(read$ ?? t.cold('#')).toBe('<c,|>', { c: [0xfeed, [{ id: 1, offset: 0x40 }]] });
    });
  });

  it('memory space off and on: accessors trap meanwhile', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, options);
      const region = device.region(0);
      now(device.mapRegion(0));
      region.write32(0, 7);
      const set = (on: boolean) => device.config?.memorySpace(on).pipe(map(({ memorySpace }) => memorySpace)) ?? t.cold('#');
      t.expect(set(false), '-^').toBe('-<o,|>', { o: false });
      t.expect(set(false), '--^').toBe('--<o,|>', { o: false });
      t.expect(set(true), '----^').toBe('----<i,|>', { i: true });
      t.at('---x-y', { x: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED'), y: () => expect([region.read32(0), driver.violations]).toEqual([7, 0]) });
    });
  });

  it('bus master changes its bit alone, and one call at a time changes the register', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, options);
      const { config } = device;
      if (config === undefined) throw new Error('no configuration space');
      config.region.write16(4, 0x0402);
      t.expect(config.busMaster(true).pipe(map(({ value }) => value)), '^!').toBe('<v,|>', { v: 0x0406 });
      t.expect(config.memorySpace(false)).toBe('#', undefined, { code: 'VFIO_E_BUSY', errno: 'EBUSY', operation: 'memory space enable' });
      t.expect(config.busMaster(false).pipe(map(({ value }) => value)), '-^').toBe('-<v,|>', { v: 0x0402 });
    });
  });

  it('a bit that the device does not keep is a typed error', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, options, (port) => ({ access: (request) => (request.write === undefined ? port.access(request) : port.access({ region: 7, offset: 0, readBytes: 1 })) }));
      t.expect(device.config?.busMaster(true).pipe(ignoreElements()) ?? t.cold('|')).toBe('#', undefined, { code: 'VFIO_E_UNSUPPORTED' });
      t.expect(device.config?.busMaster(false).pipe(ignoreElements()) ?? t.cold('|'), '-^').toBe('-|');
    });
  });

  it('is not there where the device is none of PCI, or has no such region', () => {
    expect(openedNow(virtualClock(), twoRegions).device.config).toBeUndefined();
    expect(openedNow(virtualClock(), options, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, pci: false }))) })).device.config).toBeUndefined();
  });
});
