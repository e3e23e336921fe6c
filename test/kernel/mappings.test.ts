import { firstValueFrom } from 'rxjs';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { realClock } from '../../src/clock.js';
import { openKernelPort } from '../../src/devices/kernel/open-kernel-port.js';
import type { DevicePort, Mapping } from '../../src/devices/port.js';
import { nothingHeld, SampleMdev } from '../support/mdev.js';

/** What the sample driver lets be mapped of one device at a time, ranges (drivers/linux/README.md). */
const cap = 1024;
const area = { offset: 0, size: 0x8000 };
const part = { offset: 0x1000, size: 0x1000 };

let mdev: SampleMdev;
let port: DevicePort;
const map = (): Promise<Mapping> => firstValueFrom(port.map(1, area));

beforeEach(async () => {
  mdev = new SampleMdev();
  port = await firstValueFrom(openKernelPort(mdev.uuid, realClock));
});

afterEach(async () => {
  await port[Symbol.asyncDispose]();
  expect(mdev.held()).toEqual(nothingHeld);
  mdev[Symbol.dispose]();
});

it('a driver that has no room for another mapping: mmap and a split fail, and giving back whole mappings helps', async () => {
  const mappings: Mapping[] = [];
  while (mappings.length < cap) mappings.push(await map());
  await expect(map()).rejects.toMatchObject({ code: 'VFIO_E_LIMIT', errno: 'ENOMEM' });
  const [first, second, third] = mappings;
  if (first === undefined || second === undefined || third === undefined) throw new Error('no mappings');
  await expect(firstValueFrom(port.unmap(first, part))).rejects.toMatchObject({ code: 'VFIO_E_LIMIT', errno: 'ENOMEM' });
  expect(mdev.number('vmas')).toBe(cap);
  // A hole in the middle takes two splits.
  await firstValueFrom(port.unmap(second));
  await firstValueFrom(port.unmap(third));
  await firstValueFrom(port.unmap(first, part));
  expect(mdev.number('vmas')).toBe(cap - 1);
});

it('an ack over several mappings is one violation, and one line of the trace', async () => {
  const irq = await firstValueFrom(port.irq({ index: 5 }, { ackFd: true }));
  for (let nth = 0; nth < 3; nth += 1) await map();
  mdev.write('revoke', 1);
  const { count } = await firstValueFrom(irq.next());
  await firstValueFrom(irq.ack(count));
  const violations = mdev.trace().filter(({ event }) => event === 'violation');
  expect(mdev.number('violations')).toBe(1);
  expect(violations.map(({ fields }) => fields)).toEqual([{ kind: 'acked_while_mapped', region: '1', offset: '0x0', size: '0x8000', more: '2' }]);
});

it('a stale view shows the device again once its area is mapped again, and address space does not grow', async () => {
  const first = await map();
  const stale = new Uint8Array(first.memory);
  await firstValueFrom(port.unmap(first));
  const second = await map();
  new Uint8Array(second.memory)[0] = 7;
  expect([second.address, stale[0]]).toEqual([first.address, 7]);
  await firstValueFrom(port.unmap(second));
  expect(stale[0]).toBe(0);
});
