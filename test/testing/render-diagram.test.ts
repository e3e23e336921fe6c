import { describe, expect, it } from 'vitest';
import type { Lane, PortEvent } from '../../src/diagnostics.js';
import { renderDiagram } from '../../src/testing/index.js';

/** `[us, lane, label]`, and more where an event has more. */
type Sketch = readonly [number, Lane, string, Partial<PortEvent>?];

function events(device: string, ...sketches: readonly Sketch[]): readonly PortEvent[] {
  // Any start: an axis begins with the first event.
  return sketches.map(([us, lane, label, more]) => ({ device, atNs: 7_123_456_789n + BigInt(us) * 1_000n, lane, label, ...more }));
}

function remap(us: number): readonly Sketch[] {
  return [
    [us, 'state', 'pre-copy', { phase: 'begin' }],
    [us + 2, 'driver', 'revoke0'],
    [us + 2, 'signal', '1'],
    [us + 40, 'query', 'q0'],
    [us + 40, 'query', 'q1'],
    [us + 55, 'unmap', 'u0'],
    [us + 56, 'ack', '1'],
    [us + 90, 'state', 'pre-copy', { phase: 'end' }],
  ];
}

describe('renderDiagram', () => {
  it('draws lanes on one axis, idle time as durations', () => {
    expect(renderDiagram(events('vf0', ...remap(0), [93, 'driver', 'restore0']), { width: 110 })).toBe(`          0us         2us            40us         55us       90us
vf0
  driver  -          -<revoke0> 37us -       14us -   - 33us ---<restore0>
  signal  -          -1         37us -       14us -   - 33us ----
  query   -          --         37us <q0,q1> 14us -   - 33us ----
  unmap   -          --         37us -       14us <u0>- 33us ----
  ack     -          --         37us -       14us -   1 33us ----
  state   [<pre-copy>==         37us =       14us =   = 33us ]---

each sign or <name> is 1us · a duration stands where nothing happens · q asked, u unmapped and the region
<a,b> within one · [===] a call in flight
`);
  });

  it('draws several devices', () => {
    const both = [...events('vf0', ...remap(0)), ...events('vf1', [3, 'driver', 'revoke2'], [3, 'signal', '1'], [70, 'query', 'q2', { error: new Error('EIO') }])];
    expect(renderDiagram(both, { width: 100, dropped: 12, lanes: ['driver', 'query'] })).toBe(`            2us      3us            40us         70us
vf0
  driver  --<revoke0>-         36us -       29us -
  query   ---        -         36us <q0,q1> 29us -
vf1
  driver  ---        <revoke2> 36us -       29us -
  query   ---        -         36us -       29us <q2#>

each sign or <name> is 1us · a duration stands where nothing happens · q asked and the region
<a,b> within one · # failed
12 earlier events were dropped
`);
  });

  it('breaks a long run into panels, then makes the scale coarser', () => {
    const run = [0, 1_000, 70_500, 1_500_000].flatMap((us) => remap(us));
    expect(renderDiagram(events('vf0', ...run), { width: 80, legend: false })).toBe(`          0us              40us     55us      90us    1ms              1.04ms
vf0
  driver  <revoke0>   35us -      ---    30us - 905us <revoke0>   35us -      --
  signal  1           35us -      ---    30us - 905us 1           35us -      --
  query   -           35us <q0,q1>---    30us - 905us -           35us <q0,q1>--
  unmap   -           35us -      --<u0> 30us - 905us -           35us -      --
  ack     -           35us -      --1    30us - 905us -           35us -      --
  state   [<pre-copy> 35us =      ===    30us ] 905us [<pre-copy> 35us =      ==

          1.055ms   1.09ms     70.5ms           70.54ms  70.555ms  70.59ms
vf0
  driver  -    30us - 69.405ms <revoke0>   35us -      ---    30us - 1.429405s
  signal  -    30us - 69.405ms 1           35us -      ---    30us - 1.429405s
  query   -    30us - 69.405ms -           35us <q0,q1>---    30us - 1.429405s
  unmap   <u0> 30us - 69.405ms -           35us -      --<u0> 30us - 1.429405s
  ack     1    30us - 69.405ms -           35us -      --1    30us - 1.429405s
  state   =    30us ] 69.405ms [<pre-copy> 35us =      ===    30us ] 1.429405s

          1.5s             1.50004s 1.500055s 1.50009s
vf0
  driver  <revoke0>   35us -      ---    30us -
  signal  1           35us -      ---    30us -
  query   -           35us <q0,q1>---    30us -
  unmap   -           35us -      --<u0> 30us -
  ack     -           35us -      --1    30us -
  state   [<pre-copy> 35us =      ===    30us ]
`);
    expect(renderDiagram(events('vf0', ...run), { width: 80, panels: 1 })).toBe(`          0us           1ms                70.5ms               1.5s
vf0
  driver  <revoke0>    -<revoke0>     69ms <revoke0>     1.429s <revoke0>
  signal  1            -1             69ms 1             1.429s 1
  query   <q0,q1>      -<q0,q1>       69ms <q0,q1>       1.429s <q0,q1>
  unmap   <u0>         -<u0>          69ms <u0>          1.429s <u0>
  ack     1            -1             69ms 1             1.429s 1
  state   <[pre-copy,]>-<[pre-copy,]> 69ms <[pre-copy,]> 1.429s <[pre-copy,]>

each sign or <name> is 500us · a duration stands where nothing happens
q asked, u unmapped and the region · <a,b> within one · [===] a call in flight
`);
  });

  it('keeps within the width, whatever happens', () => {
    const busy = Array.from({ length: 2_000 }, (_, n): Sketch => [n * 37, n % 3 === 0 ? 'query' : 'ack', n % 3 === 0 ? `q${n % 7}` : `${n}`]);
    for (const width of [60, 100, 200]) {
      const text = renderDiagram(events('vf0', ...busy), { width });
      expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(width);
      expect(text.split('\n\n').length).toBeLessThanOrEqual(4); // three panels and the legend
    }
  });

  it('paints only when asked, and then only events', () => {
    const one = events('vf0', [0, 'query', 'q0'], [1, 'query', 'q1', { error: new Error('EIO') }]);
    expect(renderDiagram(one, { width: 80, color: true, legend: false })).toBe('         0us 1us\nvf0\n  query  \u001b[36m<q0>\u001b[0m\u001b[1;31m<q1#>\u001b[0m\n');
    const plain = renderDiagram(one, { width: 80 });
    expect(plain).not.toContain('\u001b');
  });

  it('draws a run of more events than a call takes arguments', () => {
    const events = Array.from({ length: 140_000 }, (_, at): PortEvent => ({ device: 'vf0', atNs: BigInt(at) * 5_000n, lane: 'ack', label: '1' }));
    expect(renderDiagram(events, { width: 80, panels: 1 })).toMatch(/each sign or <name> is \d+ms/);
  });

  it('says so when nothing happened', () => {
    expect(renderDiagram([])).toBe('nothing happened\n');
  });
});
