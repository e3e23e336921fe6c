import { describe, expect, it } from 'vitest';
import { readMigrationFlags } from '../../../../src/devices/uapi/migration-feature.js';
import {
  encodeLoggingReport, encodeLoggingStart, encodeMigData, encodeUserState, migrationReply, readFeatureCall, readLoggedBits, readLoggedPage, readLoggingReport, readLoggingStart, readMigData,
  readMigDataSize, readUserState, stateOf,
} from '../../../../src/devices/vfio-user/messages/feature.js';
import { survives } from '../../../support/vfio-user/hostile.js';

const start = { pageSize: 4096, ranges: [{ iova: 0x1000n, size: 0x2000 }, { iova: 2n ** 63n, size: 4096 }] };
const part = { iova: 0x1000n, size: 0x2000, pageSize: 4096 };

describe('DEVICE_FEATURE and MIG_DATA', () => {
  it('stand at the offsets of the protocol', () => {
    expect(Buffer.from(encodeUserState('set', 'stop-copy')).toString('hex')).toBe('10000000' + '02000200' + '03000000' + '00000000');
    expect(Buffer.from(encodeMigData(2, Uint8Array.of(5, 6))).toString('hex')).toBe('0a000000' + '02000000' + '0506');
    expect(Buffer.from(encodeLoggingStart({ pageSize: 4096, ranges: [] })).toString('hex')).toBe('18000000' + '06000200' + '0010000000000000' + '00000000' + '00000000');
  });

  it('are read back as they were written', () => {
    expect(readMigrationFlags(migrationReply(7)).flags).toBe(7n);
    expect(readUserState(encodeUserState('get', 'pre-copy'))).toBe('pre-copy');
    expect(stateOf(readFeatureCall(encodeUserState('set', 'resuming')).data)).toBe('resuming');
    expect(readLoggingStart(readFeatureCall(encodeLoggingStart(start)).data)).toEqual(start);
    expect(readLoggedPage(encodeLoggingStart(start))).toBe(4096);
    const ask = readFeatureCall(encodeLoggingReport(part, undefined, 8));
    expect([ask.access, ask.argsz, readLoggingReport(ask.data)]).toEqual(['get', 8 + 24 + 8, part]);
    expect(readLoggedBits(encodeLoggingReport(part, Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0)), 8)).toEqual(Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0));
    expect(readMigDataSize(encodeMigData(1 << 20))).toBe(1 << 20);
    expect(readMigData(encodeMigData(2, Uint8Array.of(5, 6, 7)))).toEqual(Uint8Array.of(5, 6));
  });

  it('refuse GET with SET, neither, states that are none, and more than there is', () => {
    const both = encodeUserState('get', 'stop');
    both[6] = 3;
    expect(() => readFeatureCall(both)).toThrow(/at once/);
    both[6] = 0;
    expect(() => readFeatureCall(both)).toThrow(/neither/);
    both[6] = 4;
    expect(readFeatureCall(both).access).toBe('probe');
    const state = encodeUserState('get', 'stop');
    state[8] = 8;
    expect(() => readUserState(state)).toThrow(/no device_state has the number 8/);
    expect(() => readMigData(encodeMigData(3, Uint8Array.of(1)))).toThrow(/size 3, there are 1 bytes/);
    expect(() => readMigDataSize(encodeMigData((1 << 20) + 1))).toThrow(/at most/);
    const report = (size: number, pageSize: number) => readLoggingReport(readFeatureCall(encodeLoggingReport({ iova: 0n, size, pageSize }, undefined)).data);
    expect(report(2 ** 35, 4096).size).toBe(2 ** 35);
    expect(() => report(2 ** 36, 4096)).toThrow(/at most 1048576 bytes of it/);
    expect(() => report(4096, 0)).toThrow(/pages of 0/);
    const ranges = encodeLoggingStart(start);
    ranges[16] = 3;
    expect(() => readLoggingStart(readFeatureCall(ranges).data)).toThrow(/count says/);
    new DataView(ranges.buffer).setUint32(16, 0xffff_ffff, true);
    expect(() => readLoggingStart(readFeatureCall(ranges).data)).toThrow(/4294967295 ranges/);
  });

  it('survive whatever comes', () => {
    survives((bytes) => readFeatureCall(bytes), [encodeUserState('get')]);
    survives(readUserState, [encodeUserState('get', 'stop')]);
    survives((bytes) => stateOf(readFeatureCall(bytes).data), [encodeUserState('set', 'stop')]);
    survives((bytes) => readLoggingStart(readFeatureCall(bytes).data), [encodeLoggingStart(start)]);
    survives((bytes) => readLoggingReport(readFeatureCall(bytes).data), [encodeLoggingReport(part, undefined)]);
    survives(readLoggedPage, [encodeLoggingStart(start)]);
    survives((bytes) => readLoggedBits(bytes, 8), [encodeLoggingReport(part, new Uint8Array(8))]);
    survives(readMigData, [encodeMigData(2, new Uint8Array(2))]);
    survives((bytes) => readMigrationFlags(bytes), [migrationReply(7)]);
  });
});
