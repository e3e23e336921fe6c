import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { concat, EMPTY, firstValueFrom, map, mergeMap, NEVER, of, tap, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openDevice, withDevice, type DeviceAddress, type OpenOptions, type PortSource } from '../../src/devices/open.js';
import { errnoError } from '../../src/errors.js';
import { marbles, memoryTrace } from '../../src/testing/index.js';
import { softwareSource, twoRegions } from '../support/devices.js';

describe('openDevice', () => {
  it('opens on subscribe, asks what there is, and passes ownership on', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      const device$ = openDevice(source, { clock: t.clock });
      t.at('-x--y', { x: () => expect(source.driver.opens).toBe(0), y: () => expect(source.driver.opens).toBe(1) });
      t.expect(device$.pipe(map((device) => [device.name, [...device.regions.keys()].join(), device.info.irqs, device.migration?.flags, device.currentState.state].join(' '))), '---^').toBe('---<d,|>', { d: 'software0 0,1 6 7 running' });
    });
  });

  it('writes down what crosses the port, from the first call on, and opens what was written', () => {
    const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-open-'));
    try {
      const file = join(folder, 'run.jsonl');
      const record = memoryTrace();
      const states: string[] = [];
      const run = (source: DeviceAddress, options: OpenOptions) => {
        marbles((t) => {
          const state$ = withDevice(source, (device) => device.mapRegion(0).pipe(map(() => device.currentState.state)), { clock: t.clock, ...options });
          t.expect(state$.pipe(tap((state) => states.push(state)))).toBe('<r,|>', { r: 'running' });
        });
      };
      run(softwareSource(twoRegions), { record });
      writeFileSync(file, record.text);
      run(`trace:${file}`, {});
      expect(states).toEqual(['running', 'running']);
      expect(record.text.split('\n').slice(1, 3).map((line) => line.replace(/"at":"\d+",/, ''))).toEqual([
        expect.stringContaining('{"call":1,"do":"info"') as string,
        expect.stringContaining('{"call":2,"do":"regionInfo","with":{"index":0}') as string,
      ]);
      marbles((t) => t.expect(openDevice(`trace:${file}.gone`, { clock: t.clock })).toBe('#', undefined, { code: 'VFIO_E_ADDRESS', errno: 'ENOENT' }));
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('ends a recording of a device that did not open', () => {
    marbles((t) => {
      let ended = 0;
      const record = { write: () => true, end: () => void (ended += 1) };
      t.expect(openDevice({ open: () => throwError(() => errnoError('EBUSY', 'open')) }, { clock: t.clock, record })).toBe('#', undefined, { code: 'VFIO_E_BUSY' });
      const broken = softwareSource(twoRegions);
      broken.driver.faults.failQuery(1, 'EIO');
      t.expect(openDevice(broken, { clock: t.clock, record })).toBe('#', undefined, { code: 'VFIO_E_IO' });
      t.atEnd(() => expect(ended).toBe(2));
    });
  });

  it('does not ask for device_state where the device cannot migrate', () => {
    marbles((t) => {
      const source = softwareSource({ ...twoRegions, migration: false }, () => ({ getState: () => throwError(() => errnoError('ENOTTY', 'getState')) }));
      t.expect(openDevice(source, { clock: t.clock }).pipe(map(({ migration, currentState }) => `${migration === undefined ? 'no' : 'yes'} ${currentState.state}`))).toBe('<d,|>', { d: 'no running' });
    });
  });

  it('aborted before the device has come leaves nothing open, and says so; aborted before it began it opens nothing', () => {
    marbles((t) => {
      const slow = softwareSource(twoRegions, () => ({ getState: () => timer(0.005, t.clock.scheduler).pipe(map(() => 'running' as const)) }));
      const controller = new AbortController();
      t.at('---x', { x: () => controller.abort('enough') });
      t.expect(openDevice(slow, { clock: t.clock, signal: controller.signal })).toBe('---#', undefined, { code: 'VFIO_E_ABORTED', operation: 'open', cause: 'enough' });
      const other = softwareSource(twoRegions);
      t.expect(openDevice(other, { clock: t.clock, signal: AbortSignal.abort() })).toBe('#', undefined, { code: 'VFIO_E_ABORTED' });
      t.atEnd(() => expect([slow.driver.opens, other.driver.opens]).toEqual([0, 0]));
    });
  });

  it('unsubscribed before the device has come leaves nothing open', () => {
    marbles((t) => {
      const slow = softwareSource(twoRegions, () => ({ getState: () => timer(0.005, t.clock.scheduler).pipe(map(() => 'running' as const)) }));
      t.expect(openDevice(slow, { clock: t.clock }), '^--!').toBe('');
      t.at('--x-y', { x: () => expect(slow.driver.opens).toBe(1), y: () => expect(slow.driver.opens).toBe(0) });
    });
  });

  it('unsubscribed afterwards leaves it to its owner', async () => {
    const source = softwareSource(twoRegions);
    const device = await firstValueFrom(openDevice(source));
    expect(device.clock).toBe(realClock);
    expect(source.driver.opens).toBe(1);
    await device.close();
    expect(source.driver.opens).toBe(0);
  });

  it('closes the port when a question fails, and gives the error as it came', () => {
    marbles((t) => {
      const broken = softwareSource(twoRegions);
      broken.driver.faults.failQuery(1, 'EIO');
      t.expect(openDevice(broken, { clock: t.clock })).toBe('#', undefined, { code: 'VFIO_E_IO', operation: 'VFIO_DEVICE_GET_REGION_INFO(1)' });
      const stateless = softwareSource({ ...twoRegions, name: 'stateless' }, () => ({ getState: () => throwError(() => errnoError('EIO', 'getState')) }));
      t.expect(openDevice(stateless, { clock: t.clock })).toBe('#', undefined, { errno: 'EIO' });
      const failing: PortSource = { open: () => throwError(() => errnoError('EBUSY', 'open')) };
      t.expect(openDevice(failing, { clock: t.clock })).toBe('#', undefined, { code: 'VFIO_E_BUSY' });
      t.atEnd(() => expect([broken.driver.opens, stateless.driver.opens]).toEqual([0, 0]));
    });
  });

  it('does not believe a device with more regions or irqs than any has', () => {
    marbles((t) => {
      for (const hostile of [{ regions: 2 ** 31 }, { irqs: 1025 }]) {
        const source = softwareSource({ ...twoRegions, name: Object.keys(hostile).join() }, (port) => ({ info: () => port.info().pipe(map((info) => ({ ...info, ...hostile }))) }));
        t.expect(openDevice(source, { clock: t.clock })).toBe('#', undefined, expect.objectContaining({ code: 'VFIO_E_PROTOCOL', operation: 'VFIO_DEVICE_GET_INFO' }));
        t.atEnd(() => expect(source.driver.opens).toBe(0));
      }
    });
  });

  it('takes a region info that contradicts itself for an error, not for a region', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      source.driver.faults.corrupt('regionInfo', 0, (bytes) => bytes.fill(0xff));
      t.expect(openDevice(source, { clock: t.clock })).toBe('#', undefined, { code: 'VFIO_E_PROTOCOL' });
      t.atEnd(() => expect(source.driver.opens).toBe(0));
    });
  });

  it('refuses a virtual clock for a real device, before anything is opened', () => {
    marbles((t) => {
      t.expect(openDevice('0000:03:00.0', { clock: t.clock })).toBe('#', undefined, { code: 'VFIO_E_CLOCK', device: '0000:03:00.0' });
    });
  });
});

describe('withDevice', () => {
  it('closes when its body completes, and completes when nothing is held', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      const run$ = withDevice(source, (device) => t.cold('-a-b|').pipe(map((value) => `${value}${device.regions.size}`)), { clock: t.clock });
      t.expect(concat(run$, of('end').pipe(tap(() => expect(source.driver.opens).toBe(0))))).toBe('-a-b<end,|>', { a: 'a2', b: 'b2', end: 'end' });
    });
  });

  it('closes when its body fails or throws, and fails when nothing is held', () => {
    marbles((t) => {
      const bug = new Error('a bug of the user');
      const failing = softwareSource(twoRegions);
      const throwing = softwareSource({ ...twoRegions, name: 'throwing' });
      t.expect(withDevice(failing, () => t.cold('-a#', undefined, bug), { clock: t.clock }).pipe(tap({ error: () => expect(failing.driver.opens).toBe(0) }))).toBe('-a#', undefined, bug);
      t.expect(withDevice(throwing, () => { throw bug; }, { clock: t.clock }).pipe(tap({ error: () => expect(throwing.driver.opens).toBe(0) }))).toBe('#', undefined, bug);
    });
  });

  it('closes when it is unsubscribed', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      t.expect(withDevice(source, (device) => device.mapRegion(0).pipe(mergeMap(() => NEVER)), { clock: t.clock }), '^--!').toBe('');
      t.at('-x--y', { x: () => expect(source.driver.vmas).toBe(1), y: () => expect([source.driver.opens, source.driver.vmas]).toEqual([0, 0]) });
    });
  });

  it('closes when it is aborted, and fails when nothing is held', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      const controller = new AbortController();
      t.at('---x', { x: () => controller.abort() });
      const run$ = withDevice(source, (device) => device.mapRegion(0).pipe(mergeMap(() => NEVER)), { clock: t.clock, signal: controller.signal });
      t.expect(run$.pipe(tap({ error: () => expect([source.driver.opens, source.driver.vmas]).toEqual([0, 0]) }))).toBe('---#', undefined, { code: 'VFIO_E_ABORTED' });
    });
  });

  it('opens anew for each subscription', () => {
    marbles((t) => {
      const source = softwareSource(twoRegions);
      const once$ = withDevice(source, () => EMPTY, { clock: t.clock });
      t.expect(concat(once$, once$)).toBe('|');
      t.expect(withDevice(source, () => NEVER, { clock: t.clock }), '-^--!').toBe('');
      t.expect(once$, '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(once$, '-----^').toBe('-----|');
    });
  });
});
