import { describe, expect, it } from 'vitest';
import { emptyRow, inWords, rowAfter, tableOf, type End } from '../../src/cli/watch-rows.js';
import type { Seen } from '../../src/cli/watched.js';

const area = { offset: 0x1000, size: 0x2000 };
const seen: readonly (readonly [Seen | End, string])[] = [
  [{ kind: 'state', state: 'running', going: undefined }, 'state: running'],
  [{ kind: 'state', state: 'running', going: 'pre-copy' }, 'state: running, pre-copy is being written'],
  [{ kind: 'irq', irq: 'msi-x', index: 2, vector: 3, count: 1n }, 'irq: msi-x, vector 3'],
  [{ kind: 'irq', irq: 'device', index: 5, vector: 0, count: 4n }, 'irq: device, vector 0, 4 times'],
  [{ kind: 'remap', batch: 0, because: 'registered', acked: false, servedNs: 1500n, notMapped: 0 }, 'remap: batch 0 (registered) served in 1.5us'],
  [{ kind: 'remap', batch: 1, because: 'signal', acked: true, servedNs: 20n, notMapped: 2 }, 'remap: batch 1 (signal) served in 20ns, acked, 2 areas not mapped'],
  [{ kind: 'unmap', region: 1, area }, 'unmap: region 1 0x1000+0x2000'],
  [{ kind: 'map', region: 1, area }, 'map: region 1 0x1000+0x2000'],
  [{ kind: 'regions', areas: 2, bytes: 8192 }, 'regions: 2 areas, 8.0 KiB, may be mapped'],
  [{ kind: 'health', errors: 1n, releaseRequests: 0n, stuck: ['device_state'] }, 'health: 1 errors, 0 requests to give it back, stuck: device_state'],
  [{ kind: 'warning', what: 'an odd thing', error: new Error('why') }, 'warning: an odd thing: why'],
  [{ kind: 'closed', state: 'running', because: 'interrupt' }, 'closed in state running; nothing of it is held'],
  [{ kind: 'closed', state: 'stop', because: 'asked' }, 'closed in state stop, because the kernel asked for it; nothing of it is held'],
  [{ kind: 'closed', state: undefined, because: 'interrupt' }, 'closed before it was open; nothing of it is held'],
  [{ kind: 'failed', error: new Error('no') }, 'failed: no'],
];

describe('what is seen of a device', () => {
  it.each(seen)('is said in words (%#)', (one, words) => expect(inWords(one)).toBe(words));

  it('adds up to a row', () => {
    expect(seen.slice(0, 10).reduce((row, [one]) => rowAfter(row, one), emptyRow('nic'))).toEqual({
      name: 'nic', state: 'running > pre-copy', irqs: 5n, remaps: 2, acked: 1, mapped: '2, 8.0 KiB', errors: 1n, last: 'map: region 1 0x1000+0x2000',
    });
  });

  it('is a table', () => {
    expect(tableOf([emptyRow('nic'), rowAfter(emptyRow('a longer name'), { kind: 'state', state: 'running', going: undefined })])).toEqual([
      'DEVICE         STATE    IRQS  REMAPS  ACKED  AREAS  ERRORS  LAST',
      'nic            -        0     0       0      -      0       is being opened',
      'a longer name  running  0     0       0      -      0       state: running',
    ]);
  });
});
