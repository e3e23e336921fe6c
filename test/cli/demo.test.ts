import { lastValueFrom, Subject, tap, toArray } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { demo, demoCommand, type DemoLine } from '../../src/cli/demo.js';
import { virtualClock } from '../support/virtual-clock.js';

describe('vfio-rx demo', () => {
  it('tells a story of two migrations, and asks the device', async () => {
    const clock = virtualClock();
    const all = lastValueFrom(demo({ forMs: 100, clock }).pipe(toArray()));
    clock.flush();
    const told = await all;
    const lines = told.filter((one): one is DemoLine => 'who' in one);
    expect(lines.map(({ who, says }) => `${who}: ${says.replace(/[\d.]+[mun]?s after/, 'x after').replace(/ \d+ numbers/, ' N numbers')}`)).toEqual([
      'demo: a device in this process, whose driver may want its mapped memory back; it waits 2000 ms for us, no longer',
      "pipeline: listens to the driver's irq, and has mapped what may be mapped: of region 0 and region 1",
      'guest: writes a number every millisecond into region 0',
      ...[
        ['a migration begins: the device still runs while its state is copied', 'pre-copy'],
        ['the migration is given up, everything as before', 'running'],
        ['the next one stops the device at once', 'stop-copy'],
        ['given up again, and it runs', 'running'],
      ].flatMap(([why, state]) => [
        `demo: ${why} (device_state: ${state})`,
        'driver: irq: look at your regions again, I wait',
        state === 'running' ? 'pipeline: mapped region 0 and region 1 again, and said so x after the irq' : "pipeline: took region 0 and region 1 out of the guest's reach, which writes through the driver now, and said so x after the irq",
        `driver: device_state is ${state}, x after it was asked to be`,
        'guest: has written N numbers, and never stopped',
      ]),
    ]);
    expect(told.slice(lines.length)).toEqual(Array(5).fill(expect.objectContaining({ good: true })));
    // Virtual time: 100 ms and a little.
    expect(lines.at(-1)?.ns).toBeLessThan(110_000_000n);
  });

  it('ends with the verdict, as text and as JSON', async () => {
    for (const json of [false, true]) {
      const written: string[] = [];
      expect(await lastValueFrom(demoCommand({ forMs: 300 }, { write: (text) => written.push(text), json }))).toBe(0);
      const lines = written.join('').trimEnd().split('\n');
      if (json) expect(JSON.parse(lines.at(-1) ?? '')).toEqual({ what: 'nothing is held after the close', good: true, detail: 'opens 0, mappings 0, irqs 0, waiting 0' });
      else expect(lines.at(-1)).toMatch(/^All is well\./);
    }
  });

  it('ends before its time on Ctrl-C, without a verdict', async () => {
    const interrupt = new Subject<void>();
    const told = await lastValueFrom(demo({ forMs: 3_600_000, interrupt }).pipe(tap((line) => 'who' in line && line.who === 'guest' && setImmediate(() => interrupt.next())), toArray()));
    expect(told.every((line) => 'who' in line)).toBe(true);
  });
});
