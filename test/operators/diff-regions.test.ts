import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { map, throwError } from 'rxjs';
import { expect, describe, it } from 'vitest';
import { warningChannel, type Warning } from '../../src/diagnostics.js';
import type { RegionDiff } from '../../src/devices/protocol/layout-diff.js';
import type { RemapPlan } from '../../src/devices/remap-batch.js';
import { diffRegions } from '../../src/operators/diff-regions.js';
import { marbles } from '../../src/testing/index.js';
import { requeriedOf, testChannel } from '../support/batches.js';
import { firstPage, now, openedNow, secondPage, twoRegions, whole } from '../support/devices.js';

const same = { lost: { read: false, write: false }, gained: { read: false, write: false } };
const unchanged = (index: number): RegionDiff => ({ index, kept: [whole], revoked: [], added: [], ...same });
const diffs = map(({ diffs: found }: RemapPlan) => found);

describe('diffRegions', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const region = device.region(1);
      now(device.mapRegion(0));
      now(device.mapRegion(1));
      t.at('----------u', { u: () => { now(region.revoke([whole], 100)); } });
      const r = requeriedOf(device, testChannel());
      t.expectDevice(device).toShow({
        map: '                        (01)-----------------',
        unmap: '                      ----------1----------' });
      const requery = t.cold('        ------r-------r------', { r });
      t.expect(requery.pipe(diffRegions(device), diffs)).toBe('------d-------e------', {
        d: [unchanged(0), unchanged(1)],
        e: [unchanged(0), { index: 1, kept: [], revoked: [], added: [whole], ...same }],
      });
    });
  });

  it('compares with what is mapped: an area whose mmap failed is added again', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failMap(0, 'ENOMEM');
      now(device.mapRegion(0));
      const a = requeriedOf(device, testChannel({ declared: new Set([0]) }));
      t.expect(t.cold('a', { a }).pipe(diffRegions(device), diffs)).toBe('d', { d: [{ index: 0, kept: [], revoked: [], added: [whole], ...same }] });
    });
  });

  it('says areas, not only regions', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      now(device.mapRegion(0));
      const a = requeriedOf(device, testChannel({ declared: new Set([0]) }));
      const [info] = a.current.values();
      const narrowed = { ...a, current: new Map(info === undefined ? [] : [[0, { ...info, areas: [secondPage] }]]) };
      t.expect(t.cold('a', { a: narrowed }).pipe(diffRegions(device), diffs)).toBe('d', { d: [{ index: 0, kept: [secondPage], revoked: [firstPage], added: [], ...same }] });
    });
  });

  it('tells of a changed size on the warning channel, and goes on', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const a = requeriedOf(device, testChannel({ declared: new Set([0]) }));
      const [info] = a.current.values();
      const grown = { ...a, current: new Map(info === undefined ? [] : [[0, { ...info, size: 0x3000 }]]) };
      const heard: string[] = [];
      const hear = (warning: unknown): void => { heard.push((warning as Warning).what); };
      t.at('s--e', { s: () => subscribe(warningChannel.name, hear), e: () => unsubscribe(warningChannel.name, hear) });
      t.expect(t.cold('-a', { a: grown }).pipe(diffRegions(device), map(({ diffs: [diff] }) => diff?.sizeChange))).toBe('-d', { d: { from: 0x2000, to: 0x3000 } });
      t.atEnd(() => expect(heard).toEqual(['region 0 changed its size from 8192 to 12288 bytes: the vendor driver breaks the protocol']));
    });
  });

  it('passes on the end, the error and the unsubscription', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const source = t.cold('---a', { a: requeriedOf(device, testChannel()) });
      t.expect(source.pipe(diffRegions(device)), '^-!').toBe('');
      t.expectSubscriptions(source).toBe('^-!');
      t.expect(t.cold('--|').pipe(map(() => requeriedOf(device, testChannel())), diffRegions(device))).toBe('--|');
      t.expect(throwError(() => new Error('x')).pipe(diffRegions(device))).toBe('#', undefined, { message: 'x' });
    });
  });
});
