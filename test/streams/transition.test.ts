import { concat, concatMap, delay, dematerialize, EMPTY, filter, ignoreElements, map, materialize, NEVER, Observable, of, Subject, take, tap, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DataChannel, StateReply } from '../../src/devices/port.js';
import type { RemapSignal } from '../../src/devices/remap-batch.js';
import { errnoError } from '../../src/errors.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { deviceState } from '../../src/streams/device-state.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition, type Arc } from '../../src/streams/transition.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { endBatches } from '../support/batch-end.js';
import { openedNow, twoRegions, type Alter } from '../support/devices.js';

const reached = map(({ to }: Arc) => to);
const states = map(({ state, going }: { readonly state: string; readonly going?: string }) => (going === undefined ? state : `${state}>${going}`));

/** A data_fd that tells when it is closed. */
function dataChannel(said: (what: string) => void): DataChannel {
  return { direction: 'save', read: () => NEVER, write: () => NEVER, precopy: () => NEVER, close: () => concat(new Observable<never>((subscriber) => { said('closed'); subscriber.complete(); }), of(undefined)) };
}

/** device_state answers after so many frames with a data_fd. */
function slowState(t: MarbleTest, frames: number, said: (what: string) => void): Alter {
  return () => ({
    // The kernel's call cannot be taken back: it runs whether or not somebody listens.
    setState: (to) => {
      const result = new Subject<StateReply>();
      timer(frames / 1000, t.clock.scheduler).pipe(map((): StateReply => ({ state: to, data: dataChannel(said) }))).subscribe(result);
      return result;
    },
  });
}

describe('transition', () => {
  it.each([2, 1] as const)('is its diagram, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, migrationVersion });
      const slow = (signal: RemapSignal) => of(signal).pipe(delay(0.006, t.clock.scheduler));
      const serve$ = remapIrq(device).pipe(concatMap((signal) => (signal.because === 'signal' ? slow(signal) : of(signal))), remapRegions(device));
      t.expect(serve$.pipe(filter(({ because }) => because === 'after-transition'), map(() => 'b'))).toBe('-- ------b----');
      t.expectDevice(device).toShow({
        state: '                  --[p-----]----',
        signal: '                 --1 -----------',
        query: '             (0101)   --(0101)',
        unmap: '                  -- ------(01)-',
        ack: '                    -- ------1----' });
      t.expect(transition(device, 'pre-copy').pipe(map(({ from, to, tookNs, atNs }) => `${from} ${to} ${atNs} ${tookNs}`)), '  --^').toBe('-- ------(a|)-', { a: 'running pre-copy 2000 6000' });
      t.atEnd(() => expect(driver.violationList).toEqual([]));
    });
  });

  it('refuses what no kernel should be asked, before the port is', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, migration: 1 });
      t.expect(transition(device, 'pre-copy')).toBe('#', undefined, { code: 'VFIO_E_ARC', operation: 'device_state pre-copy', device: 'software0' });
      t.expect(transition(device, 'error')).toBe('#', undefined, { code: 'VFIO_E_ARC' });
      t.expectDevice(device).toShow({ state: '' });
      const none = openedNow(t.clock, { ...twoRegions, name: 'none', migration: false });
      t.expect(transition(none.device, 'stop')).toBe('#', undefined, { code: 'VFIO_E_UNSUPPORTED' });
      const full = openedNow(t.clock, { ...twoRegions, name: 'full', remap: false });
      t.expect(concat(transition(full.device, 'stop-copy'), transition(full.device, 'pre-copy')).pipe(reached)).toBe('<stop-copy,#>', undefined, { code: 'VFIO_E_ARC' });
      t.expectDevice(full.device).toShow({ state: '<[c,]>' });
    });
  });

  it('asks for nothing before it is subscribed, and once for each subscription', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, remap: false });
      const stop$ = transition(device, 'stop').pipe(map(({ from }) => from));
      t.expect(stop$, '--^').toBe('--<running,|>');
      t.expect(stop$, '-----^').toBe('-----<stop,|>');
      t.expectDevice(device).toShow({ state: '--<[s,]>--<[s,]>' });
    });
  });

  it.each([2, 1] as const)('refuses a second one while one is outstanding, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false, migrationVersion });
      driver.faults.arcLatencyUs = 5;
      t.expect(transition(device, 'pre-copy').pipe(reached)).toBe('-----<pre-copy,|>');
      t.expect(transition(device, 'stop'), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY', errno: 'EBUSY', operation: 'device_state stop' });
      t.expect(transition(device, 'running').pipe(reached), '------^').toBe('-----------<running,|>');
    });
  });

  it('is left when it is aborted, and the write goes on', () => {
    marbles((t) => {
      const closed: string[] = [];
      const { device } = openedNow(t.clock, { ...twoRegions, remap: false }, slowState(t, 5, (what) => closed.push(what)));
      const controller = new AbortController();
      const { signal } = controller;
      t.at('--x', { x: () => controller.abort('enough') });
      t.expect(transition(device, 'pre-copy', { signal })).toBe('--#', undefined, { code: 'VFIO_E_ABORTED', operation: 'device_state pre-copy', cause: 'enough' });
      t.expect(transition(device, 'stop'), '---^').toBe('---#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(deviceState(device).pipe(states)).toBe('b----c', { b: 'running>pre-copy', c: 'pre-copy' });
      // Aborted before it begins, it asks for nothing.
      t.expect(transition(device, 'stop', { signal }), '------^').toBe('------#', undefined, { code: 'VFIO_E_ABORTED' });
      t.atEnd(() => expect(closed).toEqual(['closed']));
    });
  });

  it('is refused as busy while a write is outstanding, also where the state of before has no such arc', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 5, () => undefined));
      t.expect(transition(device, 'stop-copy').pipe(reached)).toBe('-----<stop-copy,|>');
      t.expect(transition(device, 'stop').pipe(reached), '------^').toBe('-----------<stop,|>');
      t.expect(transition(device, 'pre-copy'), '-------^').toBe('-------#', undefined, { code: 'VFIO_E_BUSY' });
    });
  });

  it('without a pipeline is refused by the driver, with the cause named', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(transition(device, 'pre-copy')).toBe('#', undefined, { code: 'VFIO_E_REFUSED', errno: 'EPERM' });
      t.expect(deviceState(device).pipe(states), '-^').toBe('-<running>');
    });
  });

  it('of rfc-v4 is refused all the same where the pipeline comes before the answer does', () => {
    marbles((t) => {
      const late: Alter = (port) => ({ setState: (to) => port.setState(to).pipe(materialize(), delay(0.003, t.clock.scheduler), dematerialize()) });
      const { device } = openedNow(t.clock, { ...twoRegions, remap: { profile: 'rfc-v4' } }, late);
      t.expect(transition(device, 'pre-copy')).toBe('---#', undefined, { code: 'VFIO_E_REFUSED', errno: 'ENODEV' });
      t.expect(remapIrq(device).pipe(remapRegions(device), map(({ because }) => because)), '-^').toBe('-r-a', { r: 'registered', a: 'after-transition' });
    });
  });

  it('is done only after the batch that follows the write', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(remapIrq(device).pipe(endBatches(t, 4), map(({ because }) => because))).toBe('<registered> 9us <after-transition>');
      t.expect(transition(device, 'running-p2p').pipe(map(({ tookNs, to }) => `${to} ${tookNs}`)), '10us ^').toBe('14us <x,|>', { x: 'running-p2p 0' });
    });
  });

  it('RR-26: looks at every region once more after a failed write, too', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failArc('running-p2p', 'EIO');
      t.expect(remapIrq(device).pipe(remapRegions(device), map(({ because }) => because))).toBe('<registered>--<after-transition>');
      t.expect(transition(device, 'running-p2p'), '---^').toBe('---#', undefined, { code: 'VFIO_E_IO', errno: 'EIO' });
    });
  });

  it('of v1 that fails reads where the device is: a driver with an internal error says so', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false, migrationVersion: 1 });
      driver.faults.failArc('stop', 'EIO');
      let reads = 0;
      driver.faults.corrupt('migration', 0, (bits) => { if (++reads === 2) bits.set([6]); });
      t.expect(transition(device, 'stop'), '-^').toBe('-#', undefined, { errno: 'EIO' });
      t.expect(deviceState(device).pipe(states)).toBe('r(ab)', { r: 'running', a: 'running>stop', b: 'error' });
      t.expect(transition(device, 'running'), '---^').toBe('---#', undefined, expect.objectContaining({ code: 'VFIO_E_ARC', message: expect.stringContaining('reset it') as string }));
    });
  });

  it('asks the driver where it is after a failure: it may have stopped between two arcs', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false });
      driver.faults.failArc('stop', 'EIO');
      t.expect(transition(device, 'stop'), '-^').toBe('-#', undefined, { errno: 'EIO' });
      t.expect(deviceState(device).pipe(states)).toBe('r(ab)', { r: 'running', a: 'running>stop', b: 'running-p2p' });
    });
  });
});

describe('the deadline', () => {
  it('is the driver\'s waits and a margin by itself', () => {
    marbles((t) => {
      const stuck: Alter = () => ({ setState: () => NEVER });
      const { device } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 300, maxWaits: 2 } }, stuck);
      t.expect(remapIrq(device).pipe(endBatches(t), ignoreElements())).toBe('');
      t.expect(transition(device, 'stop')).toBe('5600ms #', undefined, expect.objectContaining({ code: 'VFIO_E_DEADLINE', operation: 'device_state stop', device: 'software0' }));
      const plain = openedNow(t.clock, { ...twoRegions, name: 'plain' }, stuck);
      t.expect(transition(plain.device, 'stop')).toBe('5s #', undefined, { code: 'VFIO_E_DEADLINE' });
    });
  });

  it('leaves the write outstanding: no other may start, and a late result is the device\'s state', () => {
    marbles((t) => {
      const said = new Subject<string>();
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 9, (what) => said.next(what)));
      t.expect(transition(device, 'pre-copy', { deadlineMs: 0.004 })).toBe('----#', undefined, { code: 'VFIO_E_DEADLINE' });
      t.expect(transition(device, 'stop'), '------^').toBe('------#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(deviceState(device).pipe(states), '-^--------!').toBe('-g-------p', { g: 'running>pre-copy', p: 'pre-copy' });
      t.expect(said).toBe('---------c', { c: 'closed' });
      t.expect(transition(device, 'stop', { deadlineMs: 1 }).pipe(reached), '10us ^').toBe('19us <stop,|>');
    });
  });

  it.each([2, 1] as const)('passes while the driver keeps the write, which is still the device\'s state when it returns, in version %i', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, remap: false, migrationVersion });
      driver.faults.stallMs = 0.009;
      t.expect(transition(device, 'pre-copy', { deadlineMs: 0.004 })).toBe('----#', undefined, { code: 'VFIO_E_DEADLINE' });
      t.expect(transition(device, 'stop'), '------^').toBe('------#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(deviceState(device).pipe(states), '-^--------!').toBe('-g-------p', { g: 'running>pre-copy', p: 'pre-copy' });
      t.expect(transition(device, 'stop').pipe(reached), '10us ^').toBe('19us <stop,|>');
    });
  });

  it('says whether user code held the loop, and for how long', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions, () => ({ setState: () => NEVER }));
      const message = (text: string): unknown => expect.objectContaining({ message: expect.stringContaining(text) as string });
      t.stall('- <30ms>');
      t.expect(transition(device, 'stop', { deadlineMs: 50 })).toBe('50ms #', undefined, message('user code blocked the event loop for 30 ms: move that work to a thread'));
      const free = openedNow(t.clock, { ...twoRegions, name: 'free' }, () => ({ setState: () => NEVER }));
      t.expect(transition(free.device, 'stop', { deadlineMs: 50 }), '40ms ^').toBe('90ms #', undefined, message('the event loop was free'));
    });
  });
});

describe('a driver that gets no ack', () => {
  it.each([2, 1] as const)('gives up by its own deadline, and the error names it, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, migrationVersion, remap: { ackTimeoutMs: 20 } });
      driver.faults.ignoreAcks = true;
      t.expect(remapIrq(device).pipe(remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy'), '-^').toBe('- 20ms #', undefined, expect.objectContaining({
        code: 'VFIO_E_ACK_TIMEOUT', errno: 'ETIMEDOUT', operation: 'device_state pre-copy',
        message: expect.stringMatching(/\(it waits 20 ms at most\); the event loop was free/) as string,
      }));
      t.atEnd(() => expect([driver.state, driver.waiters, driver.vmas]).toEqual(['running', 0, 2]));
    });
  });

  it('because user code blocked the loop: the error names the stall and its length', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, { ...twoRegions, remap: { ackTimeoutMs: 20 } });
      const blocking = tap(({ because }: RemapSignal) => { if (because === 'signal') t.stall('50ms'); });
      t.expect(remapIrq(device, { batchDeadlineMs: 1000 }).pipe(blocking, delay(0.001, t.clock.scheduler), remapRegions(device), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy').pipe(ignoreElements()), '-----^').toBe('----- 50ms #', undefined, expect.objectContaining({
        code: 'VFIO_E_ACK_TIMEOUT', message: expect.stringContaining('user code blocked the event loop for 50 ms') as string,
      }));
    });
  });
});

describe('a deadline', () => {
  it('that passed leaves the batch to the write that returns late', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 5000, () => undefined));
      t.expect(remapIrq(device).pipe(remapRegions(device), map(({ because }) => because))).toBe('r 999us d 3999us a', { r: 'registered', d: 'after-deadline', a: 'after-transition' });
      t.expect(transition(device, 'running-p2p', { deadlineMs: 1 })).toBe('1ms #', undefined, { code: 'VFIO_E_DEADLINE' });
    });
  });
});

describe('unsubscribing', () => {
  it('detaches: the write goes on, and the data_fd that it brings home is closed', () => {
    marbles((t) => {
      const said = new Subject<string>();
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 5, (what) => said.next(what)));
      t.expect(transition(device, 'pre-copy'), '^-!').toBe('');
      t.expect(said).toBe('-----c', { c: 'closed' });
      t.expect(deviceState(device).pipe(states), '-^').toBe('-g---p', { g: 'running>pre-copy', p: 'pre-copy' });
    });
  });

  it('while the batch after the write runs closes the data_fd that nobody got', () => {
    marbles((t) => {
      const said = new Subject<string>();
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 3, (what) => said.next(what)));
      t.expect(remapIrq(device).pipe(endBatches(t, 4), ignoreElements())).toBe('');
      t.expect(transition(device, 'pre-copy'), '-^---!').toBe('');
      t.expect(said).toBe('--------c', { c: 'closed' });
    });
  });

  it('after the arc has come leaves the data_fd to who got it', () => {
    marbles((t) => {
      const said = new Subject<string>();
      const { device } = openedNow(t.clock, twoRegions, slowState(t, 3, (what) => said.next(what)));
      t.expect(transition(device, 'pre-copy').pipe(take(1), map(({ data }) => data?.direction))).toBe('---<save,|>');
      t.expect(said).toBe('');
    });
  });
});

describe('closing the device', () => {
  it.each([2, 1] as const)('frees a write that waits for its ack, in version %i of device_state', (migrationVersion) => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, { ...twoRegions, migrationVersion });
      t.expect(remapIrq(device).pipe(endBatches(t, 20), ignoreElements())).toBe('----#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expect(transition(device, 'pre-copy'), '-^').toBe('----#', undefined, { code: 'VFIO_E_CANCELED', errno: 'ECANCELED' });
      t.at('----c', { c: () => void device.close() });
      t.expect(transition(device, 'stop'), '------^').toBe('------#', undefined, { code: 'VFIO_E_CLOSED' });
      t.expectDevice(device).toBeReleased();
      t.atEnd(() => expect([driver.opens, driver.irqs, driver.vmas, driver.waiters]).toEqual([0, 0, 0, 0]));
    });
  });

  it('passes an error of the port on as it came', () => {
    marbles((t) => {
      const gone = errnoError('ENODEV', 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE', 'software0');
      const { device } = openedNow(t.clock, twoRegions, () => ({ setState: () => concat(EMPTY, timer(0.002, t.clock.scheduler).pipe(map(() => { throw gone; }))) }));
      t.expect(transition(device, 'stop')).toBe('--#', undefined, gone);
    });
  });
});
