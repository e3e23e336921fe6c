import { beforeEach, describe, expect, it } from 'vitest';
import { findMigrationRegion, V1Region } from '../../../src/devices/migration/v1-region.js';
import type { Call, RegionInfo } from '../../../src/devices/port.js';
import { errnoError } from '../../../src/errors.js';
import { codeOf, now } from '../../support/devices.js';
import { RegionDouble, regionInfo } from './region-double.js';

let double: RegionDouble;
let v1: V1Region;

beforeEach(() => {
  double = new RegionDouble();
  v1 = new V1Region(double.parts);
});

const failure = (call: Call<unknown>): string => codeOf(() => now(call));

describe('finding the migration region', () => {
  const at = (...indexes: readonly number[]) => (index: number): RegionInfo | undefined => (indexes.includes(index) ? { ...regionInfo, index } : undefined);
  const find = (count: number, query: (index: number) => RegionInfo | undefined) => findMigrationRegion(count, query, 'd0');

  it('takes it at any index beyond those of the bus', () => {
    expect(find(10, at(9))?.index).toBe(9);
    expect(find(200, at(117))?.index).toBe(117);
    expect(find(9, at(8))).toBeUndefined();
    expect(find(12, at())).toBeUndefined();
  });

  it('leaves regions of other types alone', () => {
    const other = (type: RegionInfo['type']) => () => ({ ...regionInfo, type }) as RegionInfo;
    for (const type of [undefined, { type: 3, subtype: 0 }, { type: 1, subtype: 1 }]) expect(find(10, other(type))).toBeUndefined();
  });

  it.each<readonly [string, (index: number) => RegionInfo | undefined]>([
    ['two of them', at(9, 10)],
    ['one without data', (index) => (index === 9 ? { ...regionInfo, size: 32 } : undefined)],
    ['one that cannot be written', (index) => (index === 9 ? { ...regionInfo, writable: false } : undefined)],
    ['one that cannot be read', (index) => (index === 9 ? { ...regionInfo, readable: false } : undefined)],
  ])('does not believe %s', (_, query) => {
    expect(codeOf(() => find(11, query))).toBe('VFIO_E_PROTOCOL');
  });

  it('asks no more than a bounded number of regions', () => {
    const asked: number[] = [];
    find(2 ** 32 - 1, (index) => void asked.push(index));
    expect(asked.length).toBeLessThan(1024);
  });
});

describe('device_state of v1', () => {
  it('is read from the word, reserved bits aside', () => {
    double.state = 0xffff_fff8;
    expect(now(v1.getState())).toBe('stop');
    double.state = 6;
    expect(now(v1.getState())).toBe('error');
    double.state = 5;
    expect(failure(v1.getState())).toBe('VFIO_E_PROTOCOL');
  });

  it('is written as one word with reserved bits as they were, then read back; all on the state lane', () => {
    double.state = 0x101;
    now(v1.getState());
    double.log.length = 0;
    expect(now(v1.writeState('running', 'pre-copy', 'device_state pre-copy'))).toMatchObject({ state: 'pre-copy', data: { direction: 'save' } });
    expect(double.log).toEqual(['w device_state 259 (state)', 'r device_state (state)']);
  });

  it('is not written where the device is there already', () => {
    expect(now(v1.writeState('running', 'running', 'device_state running'))).toEqual({ state: 'running' });
    expect(double.log).toEqual([]);
  });

  it('does not believe a success that did not happen', () => {
    double.written = () => (double.state = 1);
    expect(failure(v1.writeState('running', 'stop-copy', 'device_state stop-copy'))).toBe('VFIO_E_PROTOCOL');
  });

  it('has no P2P states to write', () => {
    expect(failure(v1.writeState('running', 'running-p2p', 'device_state running-p2p'))).toBe('VFIO_E_ARC');
    expect(double.log).toEqual([]);
  });

  it('passes the failure of a write on, whole', () => {
    const error = errnoError('ETIMEDOUT', 'device_state stop-copy', 'd0');
    double.fail = { what: 'w device_state', error };
    expect(() => now(v1.writeState('running', 'stop-copy', 'device_state stop-copy'))).toThrow(error);
  });

  it('is closed with its port', () => {
    double.open = false;
    expect(failure(v1.getState())).toBe('VFIO_E_CLOSED');
  });
});

describe('a session of v1', () => {
  const write = (from: Parameters<V1Region['writeState']>[0], to: Parameters<V1Region['writeState']>[1]) => now(v1.writeState(from, to, `device_state ${to}`));
  const alive = (channel: { read(maxBytes: number): Call<unknown> } | undefined): string => (channel === undefined ? 'none' : failure(channel.read(1)));

  it('lasts through the saving states, and ends with them', () => {
    const { data } = write('running', 'pre-copy');
    expect(write('pre-copy', 'stop-copy').data).toBeUndefined();
    expect(alive(data)).toBe('nothing thrown');
    expect(write('stop-copy', 'stop').data).toBeUndefined();
    expect(alive(data)).toBe('VFIO_E_NO_DEVICE');
    expect(write('stop', 'stop-copy').data?.direction).toBe('save');
  });

  it('is one of resuming where the device resumes', () => {
    const { data } = write('running', 'resuming');
    expect(data?.direction).toBe('resume');
    expect(write('resuming', 'running').data).toBeUndefined();
    expect(data === undefined ? '' : failure(data.write(Uint8Array.of(1)))).toBe('VFIO_E_NO_DEVICE');
  });

  it('ends where the device is found to have failed, with a reset, and with the port', () => {
    const first = write('running', 'stop-copy').data;
    double.state = 6;
    now(v1.getState());
    expect(alive(first)).toBe('VFIO_E_NO_DEVICE');
    v1.wasReset();
    const second = write('running', 'stop-copy').data;
    v1.wasReset();
    expect(alive(second)).toBe('VFIO_E_NO_DEVICE');
    const third = write('running', 'stop-copy').data;
    const steps: string[] = [];
    const step = (what: string, release: () => void): void => {
      steps.push(what);
      release();
    };
    v1.release(step);
    v1.release(step);
    expect([alive(third), steps]).toEqual(['VFIO_E_NO_DEVICE', ['migration data closed']]);
  });
});
