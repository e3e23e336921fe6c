import { describe, expect, it } from 'vitest';
import { renderSvg } from '../../../src/testing/index.js';
import { demandedTrace, longTrace } from './runs.js';

describe('renderSvg', () => {
  it('draws lanes, bars and what they were', () => {
    const svg = renderSvg(demandedTrace(), { width: 1000 });
    expect(svg).toMatch(/^<svg xmlns="http:\/\/www.w3.org\/2000\/svg" width="1000"/);
    for (const lane of ['vf0', 'irq', 'unmap', 'region 0+0x0', 'state', 'bytes']) expect(svg).toContain(`>${lane}</text>`);
    expect(svg).toMatch(/<title>1ms, for \S+us: setState \{"to":"pre-copy"\} -&gt; \{"state":"pre-copy","data":"save"\}<\/title><rect/);
    expect(svg).toContain('>500us</text>');
    expect(renderSvg(demandedTrace(), { width: 1000 })).toBe(svg);
  });

  it('of more events than pixels says how many each pixel stands for', () => {
    const svg = renderSvg(longTrace(100_000), { width: 1000 });
    expect(svg.length).toBeLessThan(1_500_000);
    expect(svg).toMatch(/<title>\S+: \d+ events, \d+ failed; the first: regionInfo/);
  });

  it('takes names as they come from a device, and an empty run', () => {
    const svg = renderSvg({ events: [{ device: '<script>&\u0000\ud800', atNs: 5n, lane: 'ack', label: '"1"<' }] });
    expect(svg).toContain('&lt;script&gt;&amp;??</text>');
    expect(svg).not.toContain('<script>');
    expect(renderSvg({ events: [], dropped: 2 })).toContain('2 earlier events were dropped');
  });
});
