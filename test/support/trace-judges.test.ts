import { describe, expect, it } from 'vitest';
import type { TraceLine } from './mdev.js';
import { askedBeforeAck, isWhole, revokedAndMapped, revokedIsUnmapped, waitsEnd, type TraceRow } from './trace-judges.js';

/** Traces as the sample driver writes them, good ones and ones that break a promise. */

const trace = (...lines: readonly string[]): readonly TraceLine[] =>
  lines.map((text, index) => {
    const [event = '', ...pairs] = text.split(' ');
    return { seq: index, atNs: BigInt(index), event, fields: Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string])) };
  });

const row: TraceRow = { declared: [0, 1], bits: true, ack: 'value', revoked: new Map([[0, { offset: 0, size: 0x1_0000 }], [1, { offset: 0x1_0000, size: 0x8000 }]]) };
const served = [
  'open', 'register role=trigger page=0', 'register role=ack page=0',
  'mmap region=0 offset=0x0 size=0x10000', 'mmap region=1 offset=0x0 size=0x8000', 'mmap region=1 offset=0x10000 size=0x8000',
  'layout region=0 mmap=0 areas=0', 'signal add=3 page=0', 'wait target=3 page=0',
  'query region=0 mmap=0', 'query region=1 mmap=1', 'munmap region=0 offset=0x0 size=0x10000', 'munmap region=1 offset=0x10000 size=0x8000',
  'ack value=3 page=0', 'release ret=0', 'state from=RUNNING to=PRE_COPY ret=0',
] as const;
const but = (from: string, to?: string): readonly TraceLine[] => trace(...served.flatMap((line) => (line === from ? (to === undefined ? [] : [to]) : [line])));

it('a remap as it should be breaks nothing, and tests everything', () => {
  const seen = trace(...served);
  expect([waitsEnd(seen, false), askedBeforeAck(seen, row), revokedIsUnmapped(seen, row)]).toEqual([1, 1, 1].map((tested) => ({ complaints: [], tested })));
  expect([isWhole(seen), revokedAndMapped(seen, row)]).toEqual([true, []]);
});

describe('P2', () => {
  it.each(['release ret=-110', 'release ret=-22'])('%s is no end', (line) => {
    expect(waitsEnd(but('release ret=0', line), false).complaints).toHaveLength(1);
  });

  it('a timeout is one where the driver may wait in vain; a cancel always is', () => {
    expect(waitsEnd(but('release ret=0', 'release ret=-110'), true).complaints).toEqual([]);
    expect(waitsEnd(but('release ret=0', 'release ret=-125'), false).complaints).toEqual([]);
  });

  it('a wait without an end is told', () => {
    expect(waitsEnd(but('release ret=0'), false).complaints).toEqual(['never released: 8 wait target=3 page=0']);
  });
});

describe('P3', () => {
  it('a region that was not asked, or whose query failed, is told', () => {
    expect(askedBeforeAck(but('query region=1 mmap=1'), row).complaints).toEqual(['region 1 was not asked between 7 signal add=3 page=0 and 12 ack value=3 page=0']);
    expect(askedBeforeAck(but('query region=1 mmap=1', 'query region=1 ret=-5'), row).complaints).toHaveLength(1);
  });

  it('an ack covers what its sum says, and a signal of another region needs another query', () => {
    const early = trace('signal add=1 page=0', 'query region=0 mmap=0', 'signal add=2 page=0', 'ack value=1 page=0', 'query region=1 mmap=0', 'ack value=2 page=0');
    expect(askedBeforeAck(early, row)).toEqual({ complaints: [], tested: 2 });
    const all = trace('signal add=1 page=0', 'query region=0 mmap=0', 'signal add=2 page=0', 'ack value=3 page=0');
    expect(askedBeforeAck(all, row).complaints).toHaveLength(1);
  });

  it('a doorbell is for all regions of its page, and a bare ack before the read for none', () => {
    const doorbell = { ...row, bits: false };
    expect(askedBeforeAck(trace('signal add=1 page=0', 'query region=0 mmap=0', 'ack value=1 page=0'), doorbell).complaints).toHaveLength(1);
    const bare = { ...row, ack: 'bare' as const };
    expect(askedBeforeAck(trace('signal add=1 page=0', 'ack read=0 adds=1 page=0', 'query region=0 mmap=0', 'ack read=1 adds=1 page=0'), bare)).toEqual({ complaints: [], tested: 1 });
    expect(askedBeforeAck(trace('signal add=1 page=0', 'ack read=1 adds=1 page=0'), bare).complaints).toHaveLength(1);
    // The second is accounted for, and its add comes after the ack for the first.
    const early = ['signal add=1 page=0', 'query region=0 mmap=0', 'signal add=2 page=0', 'ack read=1 adds=1 page=0'];
    expect(askedBeforeAck(trace(...early), bare)).toEqual({ complaints: [], tested: 1 });
    expect(askedBeforeAck(trace(...early, 'ack read=1 adds=2 page=0'), bare)).toEqual({ complaints: ['region 1 was not asked between 2 signal add=2 page=0 and 4 ack read=1 adds=2 page=0'], tested: 2 });
  });

  it('where nobody acks, what came before the last write is asked by the end; a registration begins anew', () => {
    const none = { ...row, ack: 'none' as const };
    const written = 'state from=RUNNING to=PRE_COPY ret=0';
    expect(askedBeforeAck(trace('signal add=1 page=0', written), none).complaints).toHaveLength(1);
    expect(askedBeforeAck(trace('signal add=1 page=0', written, 'query region=0 mmap=0'), none)).toEqual({ complaints: [], tested: 1 });
    expect(askedBeforeAck(trace(written, 'signal add=1 page=0'), none)).toEqual({ complaints: [], tested: 0 });
    expect(askedBeforeAck(trace('signal add=1 page=0', written, 'unregister role=trigger page=0'), none).complaints).toEqual([]);
  });
});

describe('P5', () => {
  it.each(['munmap region=0 offset=0x0 size=0x10000', 'munmap region=1 offset=0x10000 size=0x8000'])('without %s the area is mapped still', (line) => {
    const seen = but(line);
    expect(revokedIsUnmapped(seen, row).complaints).toHaveLength(1);
    expect(revokedAndMapped(seen, row)).toHaveLength(1);
  });

  it('half of an area is not all of it', () => {
    const halved = but('munmap region=0 offset=0x0 size=0x10000', 'munmap region=0 offset=0x0 size=0x8000');
    expect(revokedAndMapped(halved, row)).toEqual(['0x8000+0x8000 of region 0']);
  });

  it('what is mapped later, inside the group, is told; what the group offers is not', () => {
    expect(revokedIsUnmapped([...trace(...served), ...trace('mmap region=0 offset=0x1000 size=0x1000')], row).complaints).toHaveLength(1);
    expect(revokedIsUnmapped([...trace(...served), ...trace('mmap region=1 offset=0x0 size=0x1000')], row).complaints).toEqual([]);
    expect(revokedIsUnmapped([...trace(...served), ...trace('layout region=0 mmap=1 areas=1', 'mmap region=0 offset=0x0 size=0x10000', 'state from=PRE_COPY to=RUNNING ret=0')], row).complaints).toEqual([]);
  });

  it('so is whatever the driver calls a violation', () => {
    expect(revokedIsUnmapped(but('release ret=0', 'violation kind=acked_while_mapped region=0'), row).complaints).toHaveLength(1);
  });
});

it('a trace that has lost lines, at its beginning or inside, is not whole', () => {
  expect(isWhole(trace(...served).slice(1))).toBe(false);
  expect(isWhole(trace(...served).filter(({ seq }) => seq !== 4))).toBe(false);
});
