import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { firstValueFrom, Subject } from 'rxjs';
import { expect, it } from 'vitest';
import { openDevice } from '../../src/devices/open.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { transition } from '../../src/streams/transition.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** `dc`: not copied by fork (Documentation/filesystems/proc.rst). */
function flagsOfMappings(): readonly string[] {
  const maps = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return maps.filter((text) => (text.split('\n')[0] ?? '').includes('vfio')).map((text) => /^VmFlags: (.*)$/m.exec(text)?.[1] ?? '');
}

it('a child process inherits no file of VFIO, no eventfd and no mapping', async () => {
  using mdev = new SampleMdev();
  // Disposed of first, also where something fails: an mdev that is open cannot be removed.
  await using device = await firstValueFrom(openDevice(mdev.uuid));
  const serving = remapIrq(device).pipe(remapRegions(device));
  const ready = new Subject<void>();
  const first = firstValueFrom(ready);
  const running = serving.subscribe({ next: () => ready.next(), error: () => undefined });
  await first;
  await firstValueFrom(transition(device, 'pre-copy'));
  await firstValueFrom(device.mapRegion(1));
  expect(mdev.number('vmas')).toBeGreaterThan(0);
  const flags = flagsOfMappings();
  expect(flags.length).toBeGreaterThan(0);
  expect(flags.every((text) => text.split(' ').includes('dc'))).toBe(true);

  const { stdout } = spawnSync('/bin/sh', ['-c', 'ls -l /proc/$$/fd; cat /proc/$$/maps'], { encoding: 'utf8' });
  expect(stdout).toContain('/bin/');
  expect(stdout.split('\n').filter((line) => /vfio|anon_inode/.test(line))).toEqual([]);

  // The driver is the witness: the child lives, and holds nothing that outlives the device.
  const child = spawn('/bin/sleep', ['1000']);
  try {
    await once(child, 'spawn');
    running.unsubscribe();
    await device.close();
    expect(mdev.held()).toEqual(nothingHeld);
  } finally {
    child.kill();
    await once(child, 'exit');
  }
});
