import { describe, expect, it } from 'vitest';
import { judgeMoves, judgeWaits } from '../../../examples/main-job/trace-order.js';
import { goodTrace, traceOf } from './evidence.js';

const faultsAfter = (from: string | RegExp, to: string): readonly string[] => judgeWaits(traceOf(goodTrace, [from, to])).faults;

describe('judgeWaits', () => {
  it('finds nothing in: signal, query, munmap, ack, release', () => {
    expect(judgeWaits(traceOf(goodTrace))).toEqual({ waits: 1, faults: [] });
  });

  it('reads a software device, whose trace begins at 1 and has fewer fields', () => {
    const trace = traceOf(goodTrace.replaceAll(/ areas=\d/g, '').replaceAll(/(query region=\d) mmap=\d/g, '$1'));
    expect(judgeWaits(trace)).toEqual({ waits: 1, faults: [] });
  });

  it('sees an ack before an area was unmapped', () => {
    expect(faultsAfter(/(14 .*\n15 .*\n)(16 .*\n)/, '$2$1')).toEqual([
      'wait at event 11: the ack came before region 0 was unmapped',
      'wait at event 11: the ack came before region 1 was unmapped',
      'wait at event 11: region 0 was unmapped after the ack',
      'wait at event 11: region 1 was unmapped after the ack',
    ]);
  });

  it('sees an area that was never unmapped', () => {
    expect(faultsAfter(/15 .*\n/, '')).toEqual(['wait at event 11: the ack came before region 1 was unmapped']);
  });

  it('sees a region that was unmapped unseen', () => {
    expect(faultsAfter(/12 .*\n/, '')).toContain('wait at event 11: region 0 was unmapped before it was queried');
  });

  it('does not take a failed query for a look', () => {
    expect(faultsAfter('12 210 query region=0 mmap=0', '12 210 query region=0 ret=-5')).toContain('wait at event 11: region 0 was unmapped before it was queried');
  });

  it('does not take the ack of an older signal for the one that is waited for', () => {
    expect(faultsAfter('wait target=1', 'wait target=2')).toEqual(['wait at event 11: it ended without an ack']);
  });

  it('counts acks from the registration on', () => {
    const earlier = '1 109 ack value=5\n1 110 register role=trigger$1wait target=2';
    expect(faultsAfter(/1 110 register role=trigger([^]*)wait target=1/, earlier)).toEqual(['wait at event 11: it ended without an ack']);
  });

  it('sees a wait that timed out, and one that never ended', () => {
    expect(faultsAfter('release ret=0', 'release ret=-110')).toEqual(['wait at event 11: it ended with -110']);
    expect(faultsAfter(/17 .*\n/, '')).toEqual(['wait at event 11: it never ended']);
  });
});

describe('judgeWaits of a driver that is acked without a number', () => {
  const bare = goodTrace.replaceAll('ack value=1', 'ack');
  const faults = (text: string): readonly string[] => judgeWaits(traceOf(text), 'bare').faults;

  it('takes the ack that comes, and finds one before its time', () => {
    expect(faults(bare)).toEqual([]);
    expect(faults(bare.replace(/(15 .*\n)(16 .*\n)/, '$2$1'))).toContain('wait at event 11: the ack came before region 1 was unmapped');
  });

  it('does not take one that the driver had to ignore, because its signal was unread', () => {
    expect(faults(bare.replace('16 230 ack', '16 230 ack read=0'))).toContain('wait at event 11: it ended without an ack');
    expect(faults(bare.replace('16 230 ack', '16 230 ack read=1'))).toEqual([]);
  });
});

describe('judgeWaits of a driver that watches the mappings', () => {
  const watched = goodTrace.replaceAll(/.* ack .*\n/g, '');
  const faults = (text: string): readonly string[] => judgeWaits(traceOf(text), 'watched').faults;

  it('wants every area gone before the wait ends, and no ack', () => {
    expect(judgeWaits(traceOf(watched), 'watched')).toEqual({ waits: 1, faults: [] });
    expect(faults(watched.replace(/15 .*\n/, ''))).toEqual(['wait at event 11: it ended before region 1 was unmapped']);
    expect(faults(goodTrace)).toEqual(['event 16: an ack, and nobody waits for one', 'event 25: an ack, and nobody waits for one']);
  });
});

describe('judgeMoves', () => {
  const moved = '1 10 mmap region=0\n2 20 munmap region=0\n3 30 state from=RUNNING to=PRE_COPY ret=0\n4 40 munmap region=1\n';

  it('counts what was unmapped before a write of device_state', () => {
    expect(judgeMoves(traceOf(moved))).toEqual({ writes: 1, moves: 1, faults: [] });
  });

  it('finds a write that was refused', () => {
    expect(judgeMoves(traceOf(moved.replace('ret=0', 'ret=-16'))).faults).toEqual(['event 3: the write of PRE_COPY ended with -16']);
  });
});
