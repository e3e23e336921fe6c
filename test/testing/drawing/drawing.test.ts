import { describe, expect, it } from 'vitest';
import { errnoError } from '../../../src/errors.js';
import type { PortEvent } from '../../../src/diagnostics.js';
import { drawingOf, formatNs, type Drawing } from '../../../src/testing/drawing/drawing.js';
import { traceEvents } from '../../../src/testing/drawing/trace-lanes.js';
import { renderDiagram } from '../../../src/testing/index.js';
import { demandedTrace } from './runs.js';

/** `lane: label@us-us ...`, an exclamation mark where it failed. */
function drawn({ devices }: Drawing): readonly string[] {
  return devices.flatMap(({ name, lanes }) => lanes.map(({ name: lane, marks }) =>
    `${name} ${lane}: ${marks.map(({ atNs, endNs, label, failed }) => `${label}@${atNs / 1000}${endNs === undefined ? '' : `-${endNs / 1000}`}${failed === true ? '!' : ''}`).join(' ')}`));
}

const areas = { first: { offset: 0, size: 0x2000 }, half: { offset: 0, size: 0x1000 } };
const event = (us: number, lane: PortEvent['lane'], label: string, more: Partial<PortEvent> = {}): PortEvent => ({ device: 'vf0', atNs: BigInt(us) * 1000n, lane, label, ...more });

describe('a drawing', () => {
  it('of a trace shows irqs, the steps of a remap, mappings, state and bytes', () => {
    const lines = drawn(drawingOf(demandedTrace()));
    const lane = (name: string): string => lines.find((line) => line.startsWith(`vf0 ${name}: `))?.replace(/^.*?: /, '') ?? '';
    expect(lane('state')).toBe('getState@0 pre-copy@1000-1030 running@2000');
    expect(lane('irq')).toBe('irq5+1@1030 irq5+1@2030');
    expect(lane('unmap')).toBe('u0@1030 u1@1030 u1@1030');
    expect(lane('ack')).toBe('1@1030 1@2030');
    expect(lane('region 0+0x0')).toBe('0x0+0x2000@0-1030 0x0+0x2000@2000-3000');
    // Of region 1 a part stayed, and what had left came back.
    expect(lane('region 1+0x0')).toBe('0x0+0x1000@0-3000');
    expect(lane('region 1+0x1000')).toBe('0x1000+0x1000@0-1030 0x1000+0x1000@2000-3000');
    expect(lane('region 1+0x3000')).toBe('0x3000+0x1000@0-1030 0x3000+0x1000@2000-3000');
    expect(lane('bytes')).toBe('read@1030');
    expect(lane('released')).toMatch(/all released@3000$/);
    expect(lines.map((line) => line.replace(/:.*/, '').replace('vf0 ', '')).slice(0, 6)).toEqual(['irq', 'query', 'unmap', 'map', 'region 0+0x0', 'region 1+0x0']);
  });

  it('gives a region with very many pieces no more lanes than can be looked at', () => {
    const events = Array.from({ length: 100 }, (_, index) => event(index, 'map', 'm0', { region: 0, area: { offset: index * 0x1000, size: 0x1000 } }));
    expect(drawingOf({ events }).devices[0]?.lanes.map(({ name }) => name)).toEqual(['map', 'region 0+...', ...Array.from({ length: 8 }, (_, index) => `region 0+0x${(index * 0x1000).toString(16)}`)]);
  });

  it('of a recording of lanes shows the same', () => {
    const events = [
      event(10, 'driver', 'revoke0'),
      event(11, 'state', 'pre-copy', { phase: 'begin' }),
      event(12, 'map', 'm0', { region: 0, area: areas.first }),
      event(14, 'unmap', 'u0', { region: 0, area: areas.half }),
      event(15, 'state', 'error', { phase: 'end', error: errnoError('EIO', 'set') }),
      event(20, 'state', 'stop', { phase: 'begin' }),
      event(21, 'ack', '1'),
      event(22, 'ack', '2', { device: 'vf1' }),
    ];
    const drawing = drawingOf({ events, dropped: 3 });
    expect(drawn(drawing)).toEqual([
      'vf0 driver: revoke0@0',
      'vf0 unmap: u0@4',
      'vf0 map: m0@2',
      'vf0 region 0+0x0: 0x0+0x1000@2-4',
      'vf0 region 0+0x1000: 0x1000+0x1000@2-12',
      'vf0 ack: 1@11',
      'vf0 state: pre-copy@1-5! stop@10-12',
      'vf1 ack: 2@12',
    ]);
    expect(drawing.notes).toEqual(['3 earlier events were dropped']);
    expect(drawing.devices[0]?.lanes.find(({ name }) => name === 'state')?.marks.map(({ detail }) => detail)).toEqual([expect.stringContaining('state pre-copy, ended in error: VfioError VFIO_E_IO') as string, 'state stop, not returned']);
  });

  it('of several traces has one time axis, and says what is missing', () => {
    const trace = demandedTrace();
    const cut = { ...trace, header: { ...trace.header, device: 'vf1' }, entries: trace.entries.slice(0, -5).map((entry) => ({ ...entry, atNs: entry.atNs + 500_000n })), incomplete: errnoError('EIO', 'read trace') };
    const both = drawingOf([trace, cut]);
    expect(both.devices.map(({ name }) => name)).toEqual(['vf0', 'vf1']);
    expect(both.lengthNs).toBe(3_500_000);
    expect(both.notes).toEqual([expect.stringContaining('read trace') as string]);
    expect(drawingOf({ events: [] })).toEqual({ lengthNs: 0, devices: [], notes: [] });
  });

  it('of a trace is a marble diagram in the terminal', () => {
    const text = renderDiagram(traceEvents(demandedTrace()), { width: 120, legend: false });
    expect(text).toMatch(/signal .*1.*1/);
    expect(text).toMatch(/unmap .*<u0,u1/);
    expect(text).toMatch(/state .*\[<pre-copy>.*\]/);
  });

  it('writes times in the unit that reads best', () => {
    expect([0, 999, 1_500, 1_234_567, 2_000_000_000].map(formatNs)).toEqual(['0ns', '999ns', '1.5us', '1.235ms', '2s']);
  });
});
