import { join } from 'node:path';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { countDevices } from '../../examples/08-metrics/metrics.js';
import { portChannel } from '../../src/diagnostics.js';
import { readPage, rowsOf } from '../docs/pages.js';
import { ExampleRun, shownBelow } from '../support/example-run.js';

/** The value of a sample of the text format. */
const valueOf = (text: string, sample: string): number => Number(text.split('\n').find((line) => line.startsWith(`${sample} `))?.slice(sample.length) ?? 0);

/** Its page has the address, what the second command picks out of the text, and every metric with its labels. */
function isAsShown(url: string, text: string): void {
  const { port } = new URL(url);
  expect(`${url.replace(port, '9464')}\n`).toMatch(shownBelow('08-metrics', 'npx tsx examples/08-metrics/main.ts --port 9464 &'));
  const picked = text.split('\n').filter((line) => /vfio_remap_served_seconds_count.*registered/.test(line)).map((line) => `${line}\n`).join('');
  expect(picked).toMatch(shownBelow('08-metrics', "curl -s --retry 9 --retry-connrefused http://127.0.0.1:9464/metrics | grep 'vfio_remap_served_seconds_count.*registered'"));
  const words = (cell: string): readonly string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word);
  const table = new Map(rowsOf(readPage(join(import.meta.dirname, '../../examples/08-metrics/README.md'))).slice(1).map(([metric = '', of = '']) => [words(metric)[0] ?? '', words(of)]));
  expect([...table.keys()].sort()).toEqual([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name = '']) => name).sort());
  for (const [name, shown] of table) {
    const [, labels = ''] = new RegExp(`^${name}\\w*\\{(.*)\\}`, 'm').exec(text) ?? [];
    expect(labels, name).not.toBe('');
    expect(shown, name).toEqual(expect.arrayContaining([...labels.matchAll(/(\w+)="/g)].map(([, label = '']) => label).filter((label) => label !== 'le')));
  }
}

describe('examples/08-metrics', () => {
  it('counts a write that failed apart from one that ended in ERROR', async () => {
    const registry = new Registry();
    countDevices(registry);
    const end = { device: 'vf0', atNs: 0n, lane: 'state', label: 'error', phase: 'end' } as const;
    portChannel.publish(end);
    portChannel.publish({ ...end, error: new Error('refused') });
    portChannel.publish({ ...end, error: new Error('refused') });
    const text = await registry.metrics();
    expect(valueOf(text, 'vfio_state_writes_total{device="vf0",state="error"}')).toBe(1);
    expect(valueOf(text, 'vfio_state_writes_total{device="vf0",state="failed"}')).toBe(2);
  });

  it('serves what the channels tell, until Ctrl-C', async () => {
    const run = new ExampleRun('08-metrics', '--port', '0');
    const url = await run.says(/^http:/);
    // It answers as long as it runs; how much there is by then is the machine's.
    let text = '';
    const begun = (): boolean => valueOf(text, 'vfio_warnings_total{device="software0"}') > 0 && valueOf(text, 'vfio_state_writes_total{device="software0",state="running"}') > 0;
    while (!begun()) text = await (await fetch(url)).text();

    expect(valueOf(text, 'vfio_irq_signals_total{device="software0",index="1",vector="0"}')).toBeGreaterThan(0);
    expect(valueOf(text, 'vfio_irq_signals_total{device="software0",index="5",vector="0"}')).toBeGreaterThan(0);
    const remaps = 'device="software0",because="signal"';
    expect(valueOf(text, `vfio_remap_served_seconds_count{${remaps}}`)).toBeGreaterThan(0);
    expect(valueOf(text, `vfio_remap_served_seconds_sum{${remaps}}`)).toBeGreaterThan(0);
    expect(valueOf(text, `vfio_remap_served_seconds_bucket{le="+Inf",${remaps}}`)).toBe(valueOf(text, `vfio_remap_served_seconds_count{${remaps}}`));
    expect(valueOf(text, 'vfio_state_writes_total{device="software0",state="stop"}')).toBeGreaterThan(0);
    expect((await fetch(new URL('/', url))).status).toBe(404);
    isAsShown(url, text);

    run.interrupt();
    expect(await run.ended).toMatchObject({ code: 0, errors: '', lines: [url, expect.stringMatching(/^closing software0: it is /)] });
  });

  it.each(['http', '65536'])('says in one line that %s is no port', async (port) => {
    expect(await new ExampleRun('08-metrics', '--port', port).ended).toMatchObject({ code: 2, errors: `--port takes a number up to 65535, not "${port}" (more: examples/08-metrics/README.md)\n` });
  });

  it('says in one line that its port is taken', async () => {
    const first = new ExampleRun('08-metrics', '--port', '0');
    const { port } = new URL(await first.says(/^http:/));
    expect(await new ExampleRun('08-metrics', '--port', port).ended).toMatchObject({ code: 1, errors: expect.stringMatching(/^.*EADDRINUSE.*\n$/) as unknown });
    first.interrupt();
    expect((await first.ended).code).toBe(0);
  });
});
