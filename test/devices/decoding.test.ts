import { concat, defer, EMPTY, ignoreElements, map, NEVER, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Clock } from '../../src/clock.js';
import type { Holder } from '../../src/devices/holders.js';
import type { SoftwareDeviceOptions } from '../../src/devices/software/options.js';
import { errnoError } from '../../src/errors.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { marbles } from '../../src/testing/index.js';
import { codeOf, now, openedNow, twoRegions, whole, type Alter } from '../support/devices.js';
import { virtualClock } from '../support/virtual-clock.js';

const config = 7;
const options: SoftwareDeviceOptions = { ...twoRegions, regions: [...(twoRegions.regions ?? []), { index: config, size: 0x100 }], lowPower: true };
const memoryOff = Uint8Array.of(0, 0);
const memoryOn = Uint8Array.of(2, 0);
const command = (write: Uint8Array) => ({ offset: 4, write });

/** A device with region 0 mapped, and how many trapped accesses to it there were. */
function mapped(clock: Clock = virtualClock(), alter: Alter = () => ({})) {
  let trapped = 0;
  const opened = openedNow(clock, options, (port) => ({
    accessNow: (request) => {
      if (request.region === 0) trapped += 1;
      return port.accessNow(request);
    },
    ...alter(port),
  }));
  now(opened.device.mapRegion(0));
  opened.device.region(0).write32(0, 7);
  return { ...opened, region: opened.device.region(0), space: opened.device.region(config), trapped: () => trapped };
}

const idle: Holder = { name: 'h', release: () => EMPTY, regain: () => EMPTY };

describe('Memory Space Enable', () => {
  it('cleared by an accessor: mapped access traps and is a typed error, until it is set again', () => {
    const { region, space, trapped, driver } = mapped();
    space.write16(4, 0);
    expect([codeOf(() => region.read32(0)), codeOf(() => region.write32(0, 8)), trapped()]).toEqual(['VFIO_E_SUSPENDED', 'VFIO_E_SUSPENDED', 2]);
    expect(() => region.read32(0)).toThrow(/pread: memory decoding is off.*EIO/);
    space.write16(4, 2);
    expect([region.read32(0), trapped(), driver.violations]).toEqual([7, 3, 0]);
  });

  it('any width and any byte of the command register counts, and nothing beside it', () => {
    const { region, space, trapped } = mapped();
    for (const [off, on] of [
      [() => space.write8(4, 1), () => space.write8(4, 3)],
      [() => space.write32(4, 0), () => space.write32(4, 2)],
      [() => space.write64(0, 0n), () => space.write64(0, 2n << 32n)],
    ] as const) {
      off();
      expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED');
      on();
      expect(region.read32(0)).toBe(7);
    }
    const before = trapped();
    space.write8(5, 0);
    space.write8(0x3c, 0);
    space.write16(4, 6);
    region.write32(0, 7);
    expect(trapped()).toBe(before);
  });

  it('by request: trapped from the moment it is asked for, back when it has answered', () => {
    marbles((t) => {
      const { region, space, driver } = mapped(t.clock);
      // The first write has to ask where the registers stand.
      space.write16(4, 2);
      t.expect(space.request(command(memoryOff)).pipe(ignoreElements()), '-^').toBe('-|');
      t.expect(space.request(command(memoryOn)).pipe(ignoreElements()), '---^').toBe('---|');
      t.at('-xyzw', {
        x: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_WOULD_BLOCK'),
        y: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED'),
        z: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED'),
        w: () => expect(region.read32(0)).toBe(7),
      });
      t.expect(region.request({ offset: 0, readBytes: 4 }), '--^').toBe('--#', undefined, { code: 'VFIO_E_SUSPENDED', errno: 'EIO', operation: 'pread' });
      t.atEnd(() => expect(driver.violations).toBe(0));
    });
  });

  it('a write that fails leaves what the registers say, and registers that do not answer leave it suspended', () => {
    let dead = false;
    let traps = 0;
    const { region, space } = mapped(virtualClock(), (port) => ({
      accessNow: (request) => {
        if (request.region === 0) traps += 1;
        if (request.region === config && (request.write !== undefined || dead)) throw errnoError('EIO', 'pwrite');
        return port.accessNow(request);
      },
    }));
    expect(codeOf(() => space.write16(4, 0))).toBe('VFIO_E_IO');
    expect(region.read32(0)).toBe(7);
    dead = true;
    expect(codeOf(() => space.write16(4, 0))).toBe('VFIO_E_IO');
    expect([region.read32(0), traps]).toEqual([7, 1]);
  });

  it('by request, too: registers that do not answer leave it suspended', () => {
    marbles((t) => {
      let dead = false;
      const { region, space, driver } = mapped(t.clock, (port) => ({
        access: (request) => (dead && request.region === config && request.write === undefined ? throwError(() => errnoError('EIO', 'pread')) : port.access(request)),
      }));
      space.write16(4, 2);
      dead = true;
      t.expect(space.request(command(memoryOff)).pipe(ignoreElements()), '-^').toBe('-|');
      t.at('--x', { x: () => expect([codeOf(() => region.read32(0)), driver.violations]).toEqual(['VFIO_E_SUSPENDED', 0]) });
    });
  });

  it('a batch meanwhile maps, and brings no accessor back', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, options);
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements()), '--^').toBe('--');
      t.at('-c-x-c-y', {
        c: () => device.region(config).write16(4, driver.readRegion(config, 4, 1)[0] === 2 ? 0 : 2),
        x: () => {
          expect([device.region(0).mapped.areas, driver.vmas, codeOf(() => device.region(0).read32(0))]).toEqual([[whole], 2, 'VFIO_E_SUSPENDED']);
        },
        y: () => {
          device.region(0).write32(0, 1);
          expect(driver.violations).toBe(0);
        },
      });
    });
  });

  it('is the device\'s own business where it is no PCI device', () => {
    const { device } = openedNow(virtualClock(), options, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, pci: false }))) }));
    now(device.mapRegion(0));
    device.region(0).write32(0, 3);
    device.region(config).write16(4, 0);
    // The accessor did not trap, which on this double is poison and not SIGBUS.
    expect(device.region(0).read32(0)).not.toBe(3);
  });
});

describe('the witness', () => {
  it('sees who touches mapped memory that is not decoded, and the write is lost', () => {
    const { device, region, space, driver } = mapped();
    const { memory } = region.pieces()[0] ?? { memory: new ArrayBuffer(8) };
    space.write16(4, 0);
    new Uint32Array(memory)[0] = 9;
    expect(driver.violationList).toMatchObject([{ kind: 'suspended-write', region: 0, offset: 0 }]);
    new Uint32Array(memory)[2] = 9;
    space.write16(4, 2);
    expect([driver.violations, region.read32(0), region.read32(8)]).toEqual([2, 7, 0]);
    void device.close();
  });
});

describe('the power state', () => {
  it('D3hot takes memory away, D0 brings it back; the kernel sleeps meanwhile, so it is a request', () => {
    marbles((t) => {
      const { region, space, driver } = mapped(t.clock);
      const power = (state: number) => space.request({ offset: 0x44, write: Uint8Array.of(state) }).pipe(ignoreElements());
      expect(codeOf(() => space.write8(0x44, 3))).toBe('VFIO_E_WOULD_BLOCK');
      t.expect(power(3), '-^').toBe('-|');
      t.expect(power(0), '---^').toBe('---|');
      t.at('--x-y', { x: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED'), y: () => expect(region.read32(0)).toBe(7) });
      t.atEnd(() => expect(driver.violations).toBe(0));
    });
  });
});

describe('holders', () => {
  it('let go before the device stops decoding, and get their areas back', () => {
    marbles((t) => {
      const { region, space, driver } = mapped(t.clock);
      const seen: string[] = [];
      const state = () => driver.readRegion(config, 4, 1)[0];
      now(region.hold([whole], { name: 'h', release: () => concat(timer(0.003, t.clock.scheduler).pipe(ignoreElements()), defer(() => { seen.push(`let go at ${state()}`); return EMPTY; })), regain: () => { seen.push(`got at ${state()}`); return EMPTY; } }));
      expect(codeOf(() => space.write16(4, 0))).toBe('VFIO_E_WOULD_BLOCK');
      t.expect(space.request(command(memoryOff)).pipe(ignoreElements()), '-^').toBe('----|');
      t.expect(space.request(command(memoryOn)).pipe(ignoreElements()), '------^').toBe('------|');
      t.atEnd(() => expect([seen, driver.violations]).toEqual([['got at 2', 'let go at 2', 'got at 2'], 0]));
    });
  });

  it('that do not let go keep the device decoding: nothing is written', () => {
    marbles((t) => {
      const { region, space, driver } = mapped(t.clock);
      now(region.hold([whole], { name: 'slow', release: () => NEVER, regain: () => EMPTY }));
      t.expect(space.request(command(memoryOff)), '-^').toBe('- 100ms #', undefined, { code: 'VFIO_E_HOLDER' });
      t.atEnd(() => expect([driver.readRegion(config, 4, 1)[0], region.read32(0)]).toEqual([2, 7]));
    });
  });

  it('who come while nothing is decoded get their areas when it is', () => {
    const { region, space } = mapped();
    const given: unknown[] = [];
    space.write16(4, 0);
    now(region.hold([whole], { ...idle, regain: (pieces) => { given.push(...pieces.map(({ area }) => area)); return EMPTY; } }));
    expect(given).toEqual([]);
    space.write16(4, 2);
    expect(given).toEqual([whole]);
  });
});

describe('one change at a time', () => {
  it('a second is refused, by whichever way, and the first goes on when nobody listens', () => {
    marbles((t) => {
      const { device, region, space } = mapped(t.clock);
      now(region.hold([whole], { ...idle, release: () => timer(0.004, t.clock.scheduler) }));
      t.expect(space.request(command(memoryOff)), '-^!').toBe('---');
      t.expect(space.request(command(memoryOn)), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY', errno: 'EBUSY' });
      t.expect(device.lowPower(true), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY' });
      t.at('--x----y', {
        x: () => expect(codeOf(() => space.write16(4, 2))).toBe('VFIO_E_WOULD_BLOCK'),
        y: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED'),
      });
    });
  });
});

describe('low power', () => {
  it('traps: accessors would wait until the device has woken up, request() wakes it', () => {
    marbles((t) => {
      const { device, region, driver } = mapped(t.clock);
      t.expect(device.lowPower(true).pipe(ignoreElements()), '-^').toBe('-|');
      t.expect(region.request({ offset: 0, readBytes: 1 }).pipe(map(([byte]) => byte)), '--^').toBe('--<7,|>', { 7: 7 });
      t.expect(device.lowPower(true), '---^').toBe('---#', undefined, { errno: 'EINVAL', operation: 'VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY' });
      t.expect(device.lowPower(false).pipe(ignoreElements()), '-----^').toBe('-----|');
      t.at('--x-y-z', {
        x: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_WOULD_BLOCK'),
        y: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_WOULD_BLOCK'),
        z: () => expect([region.read32(0), driver.violations]).toEqual([7, 0]),
      });
    });
  });

  it('that the device does not have changes nothing', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...options, lowPower: false });
      now(device.mapRegion(0));
      t.expect(device.lowPower(true), '-^').toBe('-#', undefined, { code: 'VFIO_E_UNSUPPORTED', errno: 'ENOTTY' });
      t.at('--x', { x: () => { device.region(0).write32(0, 5); expect([device.region(0).read32(0), driver.violations]).toEqual([5, 0]); } });
    });
  });
});

describe('reset', () => {
  it('is a write of device_state: one at a time, back to running, and every region is looked at once more', () => {
    marbles((t) => {
      const { device, region, space, driver } = mapped(t.clock);
      t.expect(remapIrq(device).pipe(remapRegions(device), map(({ because }) => because))).toBe('r-<s,a>---<e,a>', { r: 'registered', s: 'signal', e: 'signal', a: 'after-transition' });
      t.expect(transition(device, 'pre-copy').pipe(map(({ to }) => to)), '--^').toBe('--<pre-copy,|>');
      t.at('----o', { o: () => space.write16(4, 6) });
      t.expect(device.reset().pipe(ignoreElements()), '------^').toBe('------|');
      t.expect(device.reset(), '------^').toBe('------#', undefined, { code: 'VFIO_E_BUSY', operation: 'VFIO_DEVICE_RESET' });
      t.at('------x-y', {
        x: () => expect(codeOf(() => device.region(1).read32(0))).toBe('VFIO_E_WOULD_BLOCK'),
        y: () => {
          region.write32(0, 8);
          expect([device.currentState.state, driver.state, region.mapped.areas, driver.readRegion(config, 4, 1)[0], driver.violations]).toEqual(['running', 'running', [whole], 6, 0]);
        },
      });
    });
  });

  it('does not switch decoding on that was off', () => {
    marbles((t) => {
      const { device, region, space } = mapped(t.clock);
      space.write16(4, 0);
      t.expect(device.reset().pipe(ignoreElements()), '-^').toBe('-|');
      t.at('--x', { x: () => expect(codeOf(() => region.read32(0))).toBe('VFIO_E_SUSPENDED') });
    });
  });

  it('is refused where the device says that it has none, and a failed one leaves everything as it was', () => {
    marbles((t) => {
      const none = openedNow(t.clock, options, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, reset: false }))) }));
      t.expect(none.device.reset()).toBe('#', undefined, { code: 'VFIO_E_UNSUPPORTED' });
      const failing = openedNow(t.clock, options, () => ({ reset: () => defer(() => { throw errnoError('EAGAIN', 'VFIO_DEVICE_RESET'); }) }));
      now(failing.device.mapRegion(0));
      t.expect(failing.device.reset(), '-^').toBe('-#', undefined, { errno: 'EAGAIN' });
      t.at('---x', { x: () => { failing.device.region(0).write32(0, 5); expect([failing.device.region(0).read32(0), failing.driver.violations, failing.device.currentState.going]).toEqual([5, 0, undefined]); } });
    });
  });
});
