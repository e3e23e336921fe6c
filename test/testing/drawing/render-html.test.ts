import { describe, expect, it } from 'vitest';
import { renderHtml, type Drawable } from '../../../src/testing/index.js';
import { demandedTrace } from './runs.js';

/** What the page gets. */
function dataIn(html: string): { readonly lengthNs: number; readonly texts: readonly string[]; readonly devices: readonly { readonly name: string; readonly lanes: readonly { readonly name: string; readonly at: readonly number[]; readonly failed: readonly number[] }[] }[] } {
  const [, text = ''] = /<script type="application\/json" id="run">(.*)<\/script>/.exec(html) ?? [];
  return JSON.parse(text) as ReturnType<typeof dataIn>;
}

describe('renderHtml', () => {
  it('is one page that loads nothing', () => {
    const html = renderHtml(demandedTrace());
    expect(html).toMatch(/^<!doctype html>/);
    expect(html).toContain(`default-src 'none'`);
    expect(html).not.toMatch(/(?:src|href)=|https?:|import\(|fetch\(/);
    expect(html).toBe(renderHtml(demandedTrace()));
    const { lengthNs, devices } = dataIn(html);
    expect(lengthNs).toBe(3_000_000);
    expect(devices[0]?.lanes.map(({ name }) => name)).toEqual(expect.arrayContaining(['irq', 'query', 'unmap', 'map', 'ack', 'state', 'bytes', 'region 0+0x0']));
  });

  it('keeps what a device says inside its data', () => {
    const hostile: Drawable = { events: [{ device: '</script><script>alert(1)</script>', atNs: 0n, lane: 'ack', label: '1', error: new Error('<!--') }] };
    const html = renderHtml(hostile);
    expect(html.match(/<script/g)).toHaveLength(2);
    expect(html).not.toContain('<!--');
    expect(dataIn(html).devices[0]).toMatchObject({ name: '</script><script>alert(1)</script>', lanes: [{ name: 'ack', at: [0], failed: [0] }] });
  });
});
