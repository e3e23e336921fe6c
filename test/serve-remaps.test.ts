import { readFileSync } from 'node:fs';
import { delay, type MonoTypeOperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { acknowledge, applyRemap, decodeRegionBitmap, diffRegions, remapIrq, requeryRegions, transition, type RemapIrqOptions, type SoftwareDeviceOptions } from '../src/index.js';
import { marbles } from '../src/testing/index.js';

/** The diagrams of docs/serve-remaps.md are played, each with the driver that its block names: what the page shows is what happens. */

const page = readFileSync(new URL('../docs/serve-remaps.md', import.meta.url), 'utf8');
const blocks = new Map([...page.matchAll(/^```marbles (\S+)\n([\s\S]*?)^```$/gm)].map(([, name = '', text = '']) => [name, lanesOf(text)]));

const pageBytes = 4096;
const regions: NonNullable<SoftwareDeviceOptions['regions']> = [
  { index: 0, size: 4 * pageBytes, areas: 'all', savingAreas: [] },
  { index: 1, size: 4 * pageBytes, areas: 'all' },
];

const rows: Readonly<Record<string, { readonly remap: NonNullable<SoftwareDeviceOptions['remap']>; readonly options?: RemapIrqOptions }>> = {
  'doorbell-value': { remap: { signals: 'doorbell', ack: 'value' } },
  'bitmap-value': { remap: { signals: 'bitmap', ack: 'value' } },
  'doorbell-none': { remap: { signals: 'doorbell', ack: 'none' } },
  'bitmap-none': { remap: { signals: 'bitmap', ack: 'none' } },
  'rfc-v4': { remap: { profile: 'rfc-v4' } },
  'rfc-v4-write-one': { remap: { profile: 'rfc-v4' }, options: { rfcAck: 'write-one' } },
  'saving-layout': { remap: { profile: 'saving-layout' } },
  static: { remap: false },
};

describe('the diagrams of docs/serve-remaps.md', () => {
  it('are one for each row of the protocol', () => {
    expect([...blocks.keys()].sort()).toEqual(Object.keys(rows).sort());
  });

  it.each(Object.entries(rows))('%s', (name, { remap, options }) => {
    marbles((t) => {
      const device = t.device({ regions, remap, mailbox: false, driver: '<signal-delay 2us,arc-latency 3us>' });
      const slowly = <T>(): MonoTypeOperatorFunction<T> => delay(0.002, device.clock.scheduler);
      remapIrq(device, options)
        .pipe(decodeRegionBitmap(), requeryRegions(device), diffRegions(device), slowly(), applyRemap(device), slowly(), acknowledge(device))
        .subscribe();
      t.at('----------p-------------------r', {
        p: () => transition(device, 'pre-copy').subscribe(),
        r: () => transition(device, 'running').subscribe(),
      });
      t.expectDevice(device).toShow(blocks.get(name) ?? {});
    });
  });
});

/** `lane   marbles`, a line each. */
function lanesOf(text: string): Readonly<Record<string, string>> {
  return Object.fromEntries(text.trim().split('\n').map((line) => [line.split(/\s/)[0] ?? '', line.replace(/^\S+\s+/, '')]));
}
