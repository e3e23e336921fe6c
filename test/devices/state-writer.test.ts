import { concat, EMPTY, map, NEVER, of, Subject, tap, throwError, timer } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DataChannel, DevicePort, StateReply } from '../../src/devices/port.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { StateWriter, type StateView } from '../../src/devices/state-writer.js';
import { errnoError } from '../../src/errors.js';
import { marbles, type MarbleTest } from '../../src/testing/index.js';
import { altered, now, twoRegions } from '../support/devices.js';

const text = map(({ state, going }: StateView) => (going === undefined ? state : `${state}>${going}`));

function writerOn(t: MarbleTest, calls: Partial<Pick<DevicePort, 'setState' | 'getState'>>): StateWriter {
  return new StateWriter(altered(now(softwareDevice(twoRegions).open(t.clock)), () => calls), 'running', () => EMPTY);
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

  it('goes on without a subscriber, and closes the data_fd that comes late', () => {
    marbles((t) => {
      const closed = new Subject<string>();
      const data: DataChannel = { direction: 'save', read: () => NEVER, write: () => NEVER, close: () => of(undefined).pipe(tap(() => closed.next('x'))) };
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
