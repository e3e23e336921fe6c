import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { delay, map, of, take, throwError } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Area } from '../../src/devices/port.js';
import { diffLayout } from '../../src/devices/protocol/layout-diff.js';
import type { Remap } from '../../src/devices/remap-batch.js';
import { remapChannel } from '../../src/diagnostics.js';
import { errnoError } from '../../src/errors.js';
import { acknowledge } from '../../src/operators/acknowledge.js';
import { marbles } from '../../src/testing/index.js';
import { appliedOf, testChannel } from '../support/batches.js';
import { now, openedNow, twoRegions, whole } from '../support/devices.js';

const acked = map(({ acked: yes }: Remap) => (yes ? 'acked' : 'not'));
const fail = (error: unknown): never => { throw error; };
const times = map(({ servedNs, headroomNs }: Remap) => ({ servedNs, headroomNs }));

describe('acknowledge', () => {
  it('is its diagram', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel();
      const applied = t.cold('                             --a------b----', { a: appliedOf(channel, 2n), b: appliedOf(channel, 0n, { batch: 1 }) });
      t.expect(channel.acks).toBe('                        --2-----------');
      t.expect(applied.pipe(acknowledge(device), acked)).toBe('--r------s----', { r: 'acked', s: 'not' });
      t.expect(channel.ended).toBe('                       --a------b----', { a: '0', b: '1' });
    });
  });

  it('acks, emits, ends the batch: in this order', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel();
      const order: string[] = [];
      channel.acks.subscribe({ next: () => order.push('ack'), error: fail });
      channel.ended.subscribe({ next: () => order.push('end'), error: fail });
      const remap$ = t.cold('-a', { a: appliedOf(channel, 1n) }).pipe(acknowledge(device), map(() => order.push('emit')));
      t.expect(remap$).toBe('-x', { x: 2 });
      t.atEnd(() => expect(order).toEqual(['ack', 'emit', 'end']));
    });
  });

  it('says how long serving took and what was left of the driver\'s timeout: less than nothing where it was late', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel({ ackTimeoutMs: 1 });
      const served = (marble: string) => t.cold(marble, { a: appliedOf(channel, 1n, { atNs: 0n }) }).pipe(acknowledge(device), times);
      t.expect(served('400us a')).toBe('400us x', { x: { servedNs: 400_000n, headroomNs: 600_000n } });
      t.expect(served('3ms   a')).toBe('3ms   x', { x: { servedNs: 3_000_000n, headroomNs: -2_000_000n } });
    });
  });

  it('knows no headroom where nothing was acked or the driver never waits', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(t.cold('a', { a: appliedOf(testChannel(), 0n) }).pipe(acknowledge(device), times)).toBe('x', { x: { servedNs: 0n, headroomNs: undefined } });
      t.expect(t.cold('a', { a: appliedOf(testChannel({ ackTimeoutMs: undefined }), 1n) }).pipe(acknowledge(device), times)).toBe('x', { x: { servedNs: 0n, headroomNs: undefined } });
    });
  });

  it('acks a doubtful batch only where it found a change: else it was the echo of an ack', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel({ ackForm: 'write-one' });
      const layout = now(device.port.regionInfo(0));
      const diff = (mapped: readonly Area[]) => [diffLayout({ areas: mapped, readable: true, writable: true, size: layout.size }, layout)];
      const applied = t.cold('--a-b', { a: appliedOf(channel, 1n, { doubtful: true, diffs: diff([whole]) }), b: appliedOf(channel, 1n, { doubtful: true, diffs: diff([]), batch: 1 }) });
      t.expect(applied.pipe(acknowledge(device), acked)).toBe('--n-y', { n: 'not', y: 'acked' });
      t.expect(channel.acks).toBe('----1');
      t.expect(channel.ended).toBe('--0-1');
    });
  });

  it('says what was written, and what was left of the time where nothing needs to be', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel({ ackForm: 'none', ack: () => of(false) });
      t.expect(t.cold('-a', { a: appliedOf(channel, 3n) }).pipe(acknowledge(device), map(({ acked: yes, headroomNs }) => [yes, headroomNs]))).toBe('-x', { x: [false, 499_999_000n] });
      t.expect(channel.ended).toBe('-0');
    });
  });

  it('tells of each batch on the channel vfio-rx:remap, before the next operator hears of it', () => {
    const told: unknown[] = [];
    const listen = (event: unknown): void => void told.push(event);
    subscribe(remapChannel.name, listen);
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel({ page: 1, ackTimeoutMs: 1 });
      const applied = t.cold('400us a', { a: appliedOf(channel, 3n, { batch: 7 }) });
      t.expect(applied.pipe(acknowledge(device), map(() => `${told.length}`))).toBe('400us 1');
    });
    unsubscribe(remapChannel.name, listen);
    expect(told).toEqual([{ device: 'software0', atNs: 400_000n, page: 1, batch: 7, because: 'signal', acked: true, servedNs: 400_000n, headroomNs: 600_000n }]);
  });

  it('fails with what the write of the ack says, and does not end the batch', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel({ ack: () => throwError(() => errnoError('EAGAIN', 'irq 5 ack', 'software0')) });
      t.expect(t.cold('-a', { a: appliedOf(channel, 1n) }).pipe(acknowledge(device))).toBe('-#', undefined, { code: 'VFIO_E_BUSY', errno: 'EAGAIN', operation: 'irq 5 ack' });
      t.expect(channel.ended).toBe('');
    });
  });

  it('waits for a slow ack, one batch after the other', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const slow = testChannel();
      const channel = { ...slow, ack: (sum: bigint) => slow.ack(sum).pipe(delay(0.003, t.clock.scheduler)) };
      const applied = t.cold('ab', { a: appliedOf(channel, 1n), b: appliedOf(channel, 2n, { batch: 1 }) });
      t.expect(applied.pipe(acknowledge(device), map(({ sumRead }) => `${sumRead}`))).toBe('---1--2');
      t.expect(slow.acks).toBe('1--2');
      t.expect(slow.ended).toBe('---0--1');
    });
  });

  it('does not end the batch for who has gone with its last value: the registration goes with it', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      const channel = testChannel();
      t.expect(t.cold('-a', { a: appliedOf(channel, 1n) }).pipe(acknowledge(device), take(1), acked)).toBe('-<r,|>', { r: 'acked' });
      t.expect(channel.acks).toBe('-1');
      t.expect(channel.ended).toBe('');
    });
  });

  it('passes on the end and the error of its source', () => {
    marbles((t) => {
      const { device } = openedNow(t.clock, twoRegions);
      t.expect(t.cold('--|').pipe(map(() => appliedOf(testChannel(), 1n)), acknowledge(device))).toBe('--|');
      t.expect(throwError(() => new Error('x')).pipe(acknowledge(device))).toBe('#', undefined, { message: 'x' });
    });
  });
});
