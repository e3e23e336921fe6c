import { lastValueFrom, map, takeUntil, tap, timer, toArray, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { inWords } from '../../src/cli/watch-rows.js';
import { watched } from '../../src/cli/watched.js';
import { warningChannel } from '../../src/diagnostics.js';
import type { VfioDevice } from '../../src/devices/device.js';
import { withDevice } from '../../src/devices/open.js';
import { softwareDevice, type SoftwareDevice } from '../../src/devices/software/software-device.js';
import { transition } from '../../src/streams/transition.js';
import { virtualClock } from '../support/virtual-clock.js';

/** What is seen of a device in 10 ms in which something is done to it. */
async function seen(source: SoftwareDevice, doing: Readonly<Record<number, (device: VfioDevice) => void>>): Promise<readonly string[]> {
  const clock = virtualClock();
  const all = lastValueFrom(withDevice(source, (device) => {
    for (const [ms, act] of Object.entries(doing)) timer(Number(ms), clock.scheduler).subscribe({ next: () => act(device), error: () => undefined });
    return watched(device).pipe(map(inWords), takeUntil(timer(10, clock.scheduler)), toArray());
  }, { clock }));
  clock.flush();
  return (await all).map((line) => line.replace(/ served in [^\s,]+/, ''));
}

const ignored = (call: Observable<unknown>): void => void call.pipe(tap({ error: () => undefined })).subscribe();

describe('what watch sees', () => {
  it('is what there is, then every irq, remap, mapping, state and change of health', async () => {
    const source = softwareDevice({ irqs: { req: true } });
    expect(await seen(source, {
      1: () => source.driver.revoke(0),
      2: () => source.driver.raiseMsi(),
      3: (device) => ignored(transition(device, 'pre-copy')),
      5: ({ name, clock }) => warningChannel.publish({ device: name, atNs: clock.nowNs(), what: 'an odd thing' }),
      6: () => source.driver.raise({ index: 4 }),
    })).toEqual([
      'state: running',
      'regions: 3 areas, 128.0 KiB, may be mapped',
      'health: 0 errors, 0 requests to give it back',
      'map: region 0 0x0+0x10000',
      'map: region 1 0x0+0x8000',
      'map: region 1 0x10000+0x8000',
      'remap: batch 0 (registered)',
      'unmap: region 0 0x0+0x10000',
      'regions: 2 areas, 64.0 KiB, may be mapped',
      'remap: batch 1 (signal), acked',
      'irq: msi, vector 0',
      'state: running, pre-copy is being written',
      'unmap: region 1 0x10000+0x8000',
      'regions: 1 areas, 32.0 KiB, may be mapped',
      'remap: batch 2 (signal), acked',
      'state: pre-copy',
      'remap: batch 3 (after-transition)',
      'warning: an odd thing',
      'health: 0 errors, 1 requests to give it back',
    ]);
  });
});
