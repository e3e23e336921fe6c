import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { renderHtml, type Drawable } from '../../../src/testing/index.js';
import { noBrowser, openPage, type BrowserPage } from '../../support/chromium.js';
import { demandedTrace, longTrace } from './runs.js';

/** With all lanes demanded the test is tried, and fails, where there is no browser. */
const missing = process.env['VFIO_RX_LANES'] === 'all' ? undefined : noBrowser;
const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-page-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the page of a run, in a browser', () => {
  let page: BrowserPage;
  let close: () => Promise<void> = () => Promise.resolve();
  const errors: string[] = [];

  beforeAll(async () => {
    if (missing !== undefined) return;
    ({ page, close } = await openPage());
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()); });
  });
  afterAll(() => close());
  beforeEach((context) => {
    if (missing !== undefined) context.skip(missing);
    errors.length = 0;
  });

  const open = async (run: Drawable): Promise<void> => {
    const file = join(folder, 'run.html');
    writeFileSync(file, renderHtml(run));
    await page.goto(`file://${file}`);
  };
  const range = (): Promise<string | null> => page.textContent('#range');
  /** Every drawing happens in an animation frame: two of them later it has happened. */
  const drawn = (): Promise<unknown> => page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
  const hover = async (x: number, y: number): Promise<string | null> => {
    await page.mouse.move(x, y);
    await drawn();
    return page.textContent('#value');
  };
  /** Looks for a lane from top to bottom at one time of the picture. */
  const find = async (text: RegExp, x: number): Promise<string> => {
    const top = (await page.locator('#canvas').boundingBox())?.y ?? 0;
    for (let row = 0; row < 16; row += 1) {
      const said = await hover(x, top + 24 + row * 22 + 11);
      if (said !== null && text.test(said)) return said;
    }
    throw new Error(`nothing under the pointer says ${String(text)}`);
  };
  /** Where a time of a run of 3 ms stands, all of it shown. */
  const xOf = (ms: number): number => 130 + ((ms + 0.03) / 3.06) * (1200 - 130);

  it('says what is under the pointer', async () => {
    await open(demandedTrace());
    expect(await range()).toBe('0ns to 3ms of 3ms');
    expect(await find(/^state/, xOf(1.01))).toMatch(/^state at 1ms, for 30us: pre-copy\nsetState \{"to":"pre-copy"\} -> \{"state":"pre-copy","data":"save"\}$/);
    expect(await find(/^region 0/, xOf(0.5))).toMatch(/^region 0\+0x0 at 0ns, for 1.03ms: 0x0\+0x2000/);
    expect(await find(/^unmap/, xOf(1.03))).toMatch(/^unmap at 1.03ms: u0\nunmap \{"mapping":\d+,"region":0,.*\nunmap at 1.03ms: u1\nunmap /);
    expect(await hover(xOf(0.5), 20)).not.toContain('unmap');
    expect(errors).toEqual([]);
  });

  it('zooms around the pointer, moves, and shows all again', async () => {
    await open(demandedTrace());
    await find(/^state/, xOf(1.01));
    await page.mouse.wheel(0, -900);
    await drawn();
    expect(await range()).toMatch(/^9\d\d(\.\d+)?us to 1\.\d+ms of 3ms$/);
    // What was under the pointer still is.
    expect(await page.textContent('#value')).toMatch(/^state at 1ms/);
    const before = await range();
    await page.keyboard.press('ArrowRight');
    await drawn();
    expect(await range()).not.toBe(before);
    await page.keyboard.press('0');
    await drawn();
    expect(await range()).toBe('0ns to 3ms of 3ms');
    for (let times = 0; times < 60; times += 1) await page.keyboard.press('+');
    await drawn();
    expect(await range()).toMatch(/of 3ms$/);
    expect(errors).toEqual([]);
  });

  it('stays quick and readable with 100,000 events', async () => {
    const run = longTrace(100_000);
    expect(run.entries.length).toBeGreaterThanOrEqual(100_000);
    await open(run);
    expect(await range()).toMatch(/of 2\d\d\.\d+ms$/);
    // Where each pixel stands for many, one of them is named; further in, each has its place and its name.
    expect(await find(/^ack/, 600)).toMatch(/^ack at \d+\.\d+ms: 1\nirq.ack/);
    for (let times = 0; times < 14; times += 1) await page.keyboard.press('+');
    await drawn();
    expect(await range()).toMatch(/^1\d\d\.\d+ms to 1\d\d\.\d+ms/);
    // As far in as it goes, ends and pointer are still told apart.
    for (let times = 0; times < 14; times += 1) await page.keyboard.press('+');
    await drawn();
    const [, from, to] = /^(\S+) to (\S+) of/.exec((await range()) ?? '') ?? [];
    expect(from).not.toBe(to);
    // However many there are, no more is drawn than there are pixels.
    await page.keyboard.press('0');
    await drawn();
    const rectangles = await page.evaluate(`(async () => {
      const canvas = CanvasRenderingContext2D.prototype;
      const { fillRect } = canvas;
      let count = 0;
      canvas.fillRect = function (...where) { count += 1; fillRect.apply(this, where); };
      window.dispatchEvent(new Event('resize'));
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      return count;
    })()`);
    expect(rectangles).toBeGreaterThan(1000);
    expect(rectangles).toBeLessThan(8 * 1200);
    expect(errors).toEqual([]);
  });

  it('takes names and texts for what they are', async () => {
    await open({ events: [{ device: '</script><script>throw new Error("ran")</script>', atNs: 5n, lane: 'ack', label: '<b>1</b>' }] });
    expect(await page.title()).toContain('</script>');
    expect(await find(/^ack/, 130 + (1200 - 130) / 2)).toMatch(/<b>1<\/b>/);
    await open({ events: [], dropped: 7 });
    expect(await page.textContent('#notes')).toBe('7 earlier events were dropped');
    expect(errors).toEqual([]);
  });
});
