import { map, merge, throwError } from 'rxjs';
import { expect, describe, it } from 'vitest';
import type { RequeriedBatch } from '../../src/devices/remap-batch.js';
import { VfioError } from '../../src/errors.js';
import { requeryRegions } from '../../src/operators/requery-regions.js';
import { marbles } from '../../src/testing/index.js';
import { batchOf, testChannel } from '../support/batches.js';
import { openedNow, twoRegions } from '../support/devices.js';

/** The regions of a batch that may be mapped. */
const mappable = map(({ current }: RequeriedBatch) => [...current.values()].filter((info) => info.mmappable).map(({ index }) => index).sort().join());

describe('requeryRegions', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      const a = batchOf(testChannel());
      t.at('                           ------r', { r: () => driver.revoke(0) });
      const decode = t.cold('            --a-----------a-------', { a });
      t.expectDevice(device).toShow({
        driver: '------<revoke0>',
        query: '                         --(01)--------(01)----' });
      t.expect(decode.pipe(requeryRegions(device), mappable)).toBe('--r-----------s-------', { r: '0,1', s: '1' });
    });
  });

  it('adds the layouts to the batch and keeps all else', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const a = batchOf(testChannel(), { candidates: new Set([1]), sumRead: 7n, batch: 3 });
      t.expect(t.cold('a', { a }).pipe(requeryRegions(device))).toBe('r', { r: expect.objectContaining({ ...a, current: new Map([[1, expect.objectContaining({ index: 1, size: 0x2000 })]]) }) });
    });
  });

  it('has an empty answer for no candidates, not silence', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(t.cold('-a', { a: batchOf(testChannel(), { candidates: new Set() }) }).pipe(requeryRegions(device), map(({ current }) => current.size))).toBe('-0', { 0: 0 });
    });
  });

  it('asks a failed query again after a pause, and emits when the last has answered', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failQuery(0, 'EIO', 2);
      const decode = t.cold('-a', { a: batchOf(testChannel()) });
      t.expect(decode.pipe(requeryRegions(device), mappable)).toBe('- 2ms r', { r: '0,1' });
      t.expectDevice(device).toShow({ query: '-1 1999us 0' });
    });
  });

  it('fails with region and errno when the query stays failed: it is never "unchanged"', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failQuery(0, 'EIO', 1000);
      const decode = () => t.cold('-a', { a: batchOf(testChannel()) });
      const error = { code: 'VFIO_E_IO', errno: 'EIO', operation: 'VFIO_DEVICE_GET_REGION_INFO(0)', device: 'software0' };
      t.expect(decode().pipe(requeryRegions(device))).toBe('- 2ms #', undefined, error);
      t.expect(decode().pipe(requeryRegions(device, { retries: 0 }))).toBe('-#', undefined, error);
      t.expect(decode().pipe(requeryRegions(device, { retries: 3, pauseMs: 0.005 }))).toBe('- 15us #', undefined, error);
    });
  });

  it('serves one batch after the other, in order', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failQuery(0, 'EIO', 1);
      const channel = testChannel();
      const decode = t.cold('ab', { a: batchOf(channel, { batch: 0 }), b: batchOf(channel, { batch: 1 }) });
      t.expect(decode.pipe(requeryRegions(device), map(({ batch }) => batch))).toBe('1ms <0,1>', { 0: 0, 1: 1 });
    });
  });

  it('asks anew for each subscription and each batch: a call is not a value', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const requeried$ = t.cold('-a--a', { a: batchOf(testChannel()) }).pipe(requeryRegions(device));
      t.expect(merge(requeried$, requeried$).pipe(mappable)).toBe('-<r,r>--<r,r>', { r: '0,1' });
      t.expectDevice(device).toShow({ query: '-<0,1,0,1>--<0,1,0,1>' });
    });
  });

  it('ends its retries when it is unsubscribed', () => {
    marbles((t) => {
      const { device, driver } = openedNow(t.clock, twoRegions);
      driver.faults.failQuery(0, 'EIO', 1);
      t.expect(t.cold('a', { a: batchOf(testChannel()) }).pipe(requeryRegions(device)), '^ 500us !').toBe('');
      t.expectDevice(device).toShow({ query: '1' });
    });
  });

  it('passes on the end and the error of its source', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const failure = new VfioError('VFIO_E_NO_DEVICE', 'gone', { operation: 'irq' });
      t.expect(t.cold('--|').pipe(map(() => batchOf(testChannel())), requeryRegions(device))).toBe('--|');
      t.expect(throwError(() => failure).pipe(requeryRegions(device))).toBe('#', undefined, failure);
    });
  });
});
