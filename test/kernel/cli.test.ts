import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { firstValueFrom, lastValueFrom, NEVER, Subject } from 'rxjs';
import { expect, it } from 'vitest';
import { watchable, watchCommand } from '../../src/cli/watch.js';
import { openDevice } from '../../src/devices/open.js';
import { doctor, info, linesOf, listed } from '../support/looking.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { VfioPci } from '../support/pci.js';

/** An emulated processor takes its time. */
const patienceMs = 120_000;

it('doctor says what is missing before a function is bound, and its commands bind it, and give it back', { timeout: patienceMs }, async () => {
  const bdf = VfioPci.eduAddress();
  const before = doctor(bdf);
  expect(before).toMatchObject({ code: 1, wrong: ['driver'] });
  expect(listed()).toContainEqual(expect.objectContaining({ device: bdf, kind: 'pci', vendor: '1234', id: '11e8', ready: false }));

  const run = (commands: unknown): void => {
    for (const command of commands as readonly string[]) execFileSync('sh', ['-c', command]);
  };
  run(before.lines.find(({ about }) => about === 'driver')?.['mend']);
  const after = doctor(bdf);
  expect(after).toMatchObject({ code: 0, wrong: [] });
  expect(listed()).toContainEqual(expect.objectContaining({ device: bdf, driver: 'vfio-pci', ready: true }));

  const held = await firstValueFrom(openDevice(bdf));
  expect(await lastValueFrom(held.irqs())).not.toEqual([]);
  await held.close();
  run(after.lines.find(({ about }) => about === 'driver')?.['mend']);
  expect(doctor(bdf)).toMatchObject({ code: 1, wrong: ['driver'] });
});

it('info says what edu and a network card are', { timeout: patienceMs }, async () => {
  using edu = VfioPci.edu();
  using card = VfioPci.networkCard();
  expect(await info(edu.address)).toMatchObject({
    pci: true, reset: false, regions: [{ index: 0, name: 'BAR 0', size: 1 << 20, areas: [{ offset: 0, size: 1 << 20 }] }, { index: 7, name: 'config space' }],
    irqs: [{ kind: 'intx' }, { kind: 'msi' }, { kind: 'req' }], config: { vendorId: 0x1234, deviceId: 0x11e8, capabilities: expect.arrayContaining([expect.objectContaining({ name: 'MSI' })]) as unknown },
  });
  expect(await info(card.address)).toMatchObject({
    pci: true, reset: true, irqs: expect.arrayContaining([expect.objectContaining({ kind: 'msi-x', count: 5 }), expect.objectContaining({ kind: 'err' })]) as unknown,
    config: {
      vendorId: 0x8086, deviceId: 0x10d3, capabilities: expect.arrayContaining([expect.objectContaining({ name: 'PCI Express' }), expect.objectContaining({ name: 'MSI-X' })]) as unknown,
      extended: expect.arrayContaining([expect.objectContaining({ name: 'advanced error reporting' })]) as unknown,
    },
    dma: { available: expect.any(Number) as unknown, iovaRanges: expect.any(Array) as unknown },
  });
  expect((await info(card.address))['migration']).toBeUndefined();
});

it('list, doctor and info know a device of the sample driver', { timeout: patienceMs }, async () => {
  using sample = new SampleMdev();
  expect(listed()).toContainEqual(expect.objectContaining({ device: sample.uuid, kind: 'mdev', ready: true }));
  expect(doctor(sample.uuid)).toMatchObject({ code: 0, wrong: [] });
  expect(await info(sample.uuid)).toMatchObject({
    regions: expect.arrayContaining([expect.objectContaining({ name: 'BAR 0' })]) as unknown, irqs: expect.arrayContaining([expect.objectContaining({ kind: 'remap' })]) as unknown,
    migration: { version: 2, flags: ['STOP_COPY', 'P2P', 'PRE_COPY'] },
  });
  expect(sample.held()).toEqual(nothingHeld);
});

it('watch sees remaps and irqs of several devices, and leaves nothing held', { timeout: patienceMs }, async () => {
  using sample = new SampleMdev({ ackTimeoutMs: 20_000 });
  using card = VfioPci.networkCard();
  const interrupt = new Subject<void>();
  const written: string[] = [];
  let begun = 0;
  const write = (text: string): void => {
    written.push(text);
    if (text.includes('"because":"registered"')) begun += 1;
    if (begun === 2) interrupt.next();
  };
  expect(await lastValueFrom(watchCommand({ devices: [sample.uuid, card.address].map(watchable) }, { write, json: true }, interrupt))).toBe(0);
  const lines = linesOf(written);
  for (const device of [sample.uuid, card.address]) {
    const seen = lines.filter((line) => line['device'] === device);
    expect(seen.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['state', 'regions', 'health', 'map', 'remap']));
    expect(seen.filter(({ kind }) => kind === 'warning')).toEqual([]);
    expect(seen.at(-1)).toMatchObject({ kind: 'closed', state: 'running', because: 'interrupt' });
  }
  expect([sample.held(), vfioFds()]).toEqual([nothingHeld, []]);
});

it('watch closes a device that is being unbound, which waits for that', { timeout: patienceMs }, async () => {
  using card = VfioPci.networkCard();
  const written: string[] = [];
  let unbound: Promise<unknown> = Promise.resolve();
  const write = (text: string): void => {
    written.push(text);
    if (text.includes('"because":"registered"')) unbound = promisify(execFile)('sh', ['-c', `echo ${card.address} > /sys/bus/pci/drivers/vfio-pci/unbind`]);
  };
  expect(await lastValueFrom(watchCommand({ devices: [watchable(card.address)] }, { write, json: true }, NEVER))).toBe(0);
  expect(linesOf(written).at(-1)).toMatchObject({ kind: 'closed', because: 'asked' });
  await unbound;
  expect(card.bound).toBe(false);
});
