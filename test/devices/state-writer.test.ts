import { concat, EMPTY, map, NEVER, Observable, of, Subject, tap, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { directCall } from '../../src/devices/call.js';
import type { DataChannel, DevicePort, StateReply } from '../../src/devices/port.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { StateWriter, type StateView, type WriteHooks } from '../../src/devices/state-writer.js';
import { errnoError } from '../../src/errors.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { altered, now, twoRegions } from '../support/devices.js';

const text = map(({ state, going }: StateView) => (going === undefined ? state : `${state}>${going}`));

const noHooks: WriteHooks = { mayStart: () => EMPTY, prepare: () => EMPTY, explain: (error) => of(error), adopt: () => EMPTY, lookAgain: () => EMPTY };

function writerOn(t: MarbleTest, calls: Partial<Pick<DevicePort, 'setState' | 'getState' | 'reset'>>, hooks: Partial<WriteHooks> = {}): StateWriter {
  return new StateWriter(altered(now(softwareDevice(twoRegions).open(t.clock)), () => calls), 'running', { ...noHooks, ...hooks });
}

describe('StateWriter', () => {
  it('shows what is going on, and owns the one write', () => {
    marbles((t) => {
      const writer = writerOn(t, { setState: (to) => timer(0.004, t.clock.scheduler).pipe(map((): StateReply => ({ state: to }))) });
      t.expect(writer.write('stop').pipe(map(({ state }) => state)), '-^').toBe('-----<stop,|>');
      t.expect(writer.write('running'), '---^').toBe('---#', undefined, expect.objectContaining({ code: 'VFIO_E_BUSY', errno: 'EBUSY', operation: 'device_state running', message: expect.stringContaining('the write of stop has not returned') as string }));
      t.expect(writer.cell.values.pipe(text)).toBe('rg---s', { r: 'running', g: 'running>stop', s: 'stop' });
      t.at('abcde-f', { a: () => expect(writer.outstanding).toBe(false), b: () => undefined, c: () => expect(writer.outstanding).toBe(true), d: () => undefined, e: () => undefined, f: () => expect(writer.outstanding).toBe(false) });
    });
  });

  it('is free again when its subscribers hear of the end', () => {
    marbles((t) => {
      const writer = writerOn(t, { setState: (to) => of<StateReply>({ state: to }) });
      const again = tap(({ state, going }: StateView) => { if (state === 'stop' && going === undefined) writer.write('running').subscribe({ error: (error: unknown) => { throw error; } }); });
      t.expect(writer.cell.values.pipe(again, text)).toBe('r-(abcd)', { r: 'running', a: 'running>stop', b: 'stop', c: 'stop>running', d: 'running' });
      t.expect(writer.write('stop').pipe(map(({ state }) => state)), '--^').toBe('--<stop,|>');
    });
  });

  it('takes the state that the driver names, not the one that was asked for', () => {
    marbles((t) => {
      const writer = writerOn(t, { setState: () => of<StateReply>({ state: 'running-p2p' }) });
      t.expect(concat(writer.write('stop'), writer.cell.values).pipe(map(({ state }) => state))).toBe('<a,a>', { a: 'running-p2p' });
    });
  });

  it('after a failure asks the driver where it is, and believes itself where that fails too', () => {
    marbles((t) => {
      const failed = errnoError('EIO', 'set', 'software0');
      const setState = () => throwError(() => failed);
      const between = writerOn(t, { setState, getState: () => timer(0.002, t.clock.scheduler).pipe(map(() => 'running-p2p' as const)) });
      t.expect(between.write('stop')).toBe('--#', undefined, failed);
      t.expect(between.cell.values.pipe(text)).toBe('g-p', { g: 'running>stop', p: 'running-p2p' });
      const silent = writerOn(t, { setState, getState: () => throwError(() => errnoError('ENODEV', 'get')) });
      t.expect(silent.write('stop')).toBe('#', undefined, failed);
      t.expect(silent.cell.values.pipe(text)).toBe('r', { r: 'running' });
    });
  });

  it('fails, and is free again, where the port throws or says nothing', () => {
    marbles((t) => {
      const thrown = new Error('thrown');
      const calls = [directCall<StateReply>(() => { throw thrown; }), EMPTY, of<StateReply>({ state: 'stop' })];
      const writer = writerOn(t, { setState: () => calls.shift() ?? NEVER });
      t.expect(writer.write('stop')).toBe('#', undefined, thrown);
      t.expect(writer.write('stop'), '-^').toBe('-#', undefined, { code: 'VFIO_E_PROTOCOL', operation: 'device_state stop' });
      t.expect(writer.write('stop').pipe(map(({ state }) => state)), '--^').toBe('--<stop,|>');
    });
  });

  it('goes on without a subscriber, and closes the data_fd that comes late', () => {
    marbles((t) => {
      const closed = new Subject<string>();
      const data: DataChannel = { direction: 'save', read: () => NEVER, write: () => NEVER, precopy: () => NEVER, close: () => of(undefined).pipe(tap(() => closed.next('x'))) };
      const reply = timer(0.004, t.clock.scheduler).pipe(map((): StateReply => ({ state: 'pre-copy', data })));
      const late = writerOn(t, { setState: () => reply });
      t.expect(late.write('pre-copy'), '^-!').toBe('');
      t.expect(late.cell.values.pipe(text)).toBe('g---p', { g: 'running>pre-copy', p: 'pre-copy' });
      const taken = writerOn(t, { setState: () => of<StateReply>({ state: 'pre-copy', data }) });
      t.expect(taken.write('pre-copy').pipe(map((got) => got.data === data))).toBe('<y,|>', { y: true });
      t.expect(closed).toBe('----x');
    });
  });
});

describe('the hooks', () => {
  it('RR-43: stand around the write in their order, and the mappings follow before anybody is told', () => {
    marbles((t) => {
      const order: string[] = [];
      const step = (name: string) => () => new Observable<never>((subscriber) => { order.push(name); subscriber.complete(); });
      const writer = writerOn(t, { setState: (to) => { order.push('set'); return of<StateReply>({ state: to }); } }, { mayStart: step('may start'), prepare: step('prepare'), adopt: step('adopt'), lookAgain: step('look again') });
      writer.cell.values.subscribe({ next: (view) => { order.push(view.going ?? `now ${view.state}`); }, error: (error: unknown) => { throw error; } });
      t.expect(writer.write('stop').pipe(map(({ state }) => state)), '-^').toBe('-<stop,|>');
      t.atEnd(() => expect(order).toEqual(['now running', 'may start', 'stop', 'prepare', 'set', 'adopt', 'now stop', 'look again']));
    });
  });

  it('a batch that ends at once has returned before the caller hears of it', () => {
    marbles((t) => {
      const order: string[] = [];
      const lookAgain = () => new Observable<never>((subscriber) => { subscriber.complete(); order.push('armed'); });
      const writer = writerOn(t, { setState: (to) => of<StateReply>({ state: to }) }, { lookAgain });
      writer.write('stop').subscribe({ next: () => { order.push('heard'); }, error: (error: unknown) => { throw error; } });
      t.atEnd(() => expect(order).toEqual(['armed', 'heard']));
    });
  });

  it('who leaves before the start takes the write back', () => {
    marbles((t) => {
      const asked: string[] = [];
      const writer = writerOn(t, { setState: (to) => { asked.push(to); return of<StateReply>({ state: to }); } }, { mayStart: () => t.cold<never>('---|') });
      const begun = (): number => asked.push('begun');
      t.expect(writer.write('stop', begun), '^-!').toBe('');
      t.expect(writer.write('running'), '-^').toBe('-#', undefined, expect.objectContaining({ code: 'VFIO_E_BUSY', message: expect.stringContaining('waits for its start') as string }));
      t.expect(writer.write('stop-copy', begun).pipe(map(({ state }) => state)), '---^').toBe('------<stop-copy,|>');
      t.atEnd(() => expect(asked).toEqual(['begun', 'stop-copy']));
    });
  });

  it('a preparation that fails asks nothing of the driver but where it is, and the mappings go back', () => {
    marbles((t) => {
      const adopted: string[] = [];
      const failed = errnoError('EIO', 'munmap');
      const writer = writerOn(t, { setState: () => { throw new Error('asked'); } }, { prepare: () => throwError(() => failed), adopt: (state) => { adopted.push(state); return EMPTY; } });
      t.expect(writer.write('stop-copy'), '-^').toBe('-#', undefined, failed);
      t.expect(writer.cell.values.pipe(text)).toBe('r(gr)', { r: 'running', g: 'running>stop-copy' });
      t.atEnd(() => expect(adopted).toEqual(['running']));
    });
  });

  it('the explanation of a failure is what the caller gets', () => {
    marbles((t) => {
      const writer = writerOn(t, { setState: () => throwError(() => errnoError('ENODEV', 'set')) }, { explain: (_error, to) => of(new Error(`no ${to}`)) });
      t.expect(writer.write('stop')).toBe('#', undefined, new Error('no stop'));
    });
  });
});

describe('a reset', () => {
  it('is a write of running that no other may stand beside', () => {
    marbles((t) => {
      const resets: string[] = [];
      const writer = writerOn(t, { reset: () => t.cold('---(x|)', { x: undefined }) }, { adopt: (state) => { resets.push(state); return EMPTY; } });
      t.expect(writer.reset().pipe(map(({ state }) => state))).toBe('---<running,|>');
      t.expect(writer.write('stop'), '-^').toBe('-#', undefined, { code: 'VFIO_E_BUSY' });
      t.expect(writer.reset(), '--^').toBe('--#', undefined, { code: 'VFIO_E_BUSY', operation: 'VFIO_DEVICE_RESET' });
      t.atEnd(() => expect(resets).toEqual(['running']));
    });
  });
});
