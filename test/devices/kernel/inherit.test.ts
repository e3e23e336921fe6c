import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import { VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO } from '../../../src/devices/uapi/constants.js';
import { atOnce } from '../../../src/testing/conformance/port/steps.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { irqInfo, regionInfo } from '../uapi/encoders.js';
import { callsWith, HandLanes, KernelTree, openedAs } from './doubles.js';

const area = { offset: 0, size: 0x4000 };

/** VmFlags of the mapping at an address; `dc`: fork does not copy it (Documentation/filesystems/proc.rst). */
function flagsAt(address: bigint): readonly string[] {
  const mappings = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const found = mappings.find((text) => text.startsWith(`${address.toString(16)}-`)) ?? '';
  return (/^VmFlags: (.*)$/m.exec(found)?.[1] ?? '').split(' ');
}

it('a child process inherits no fd of a port and no eventfd; fork does not copy its mappings', () => {
  using tree = new KernelTree().file('device');
  const answers: Readonly<Record<number, Uint8Array>> = {
    [VFIO_DEVICE_GET_REGION_INFO]: regionInfo({ index: 0, flags: 7, size: 0x1_0000, offset: 0 }),
    [VFIO_DEVICE_GET_IRQ_INFO]: irqInfo({ index: 5, flags: 3, count: 1 }),
  };
  const calls = callsWith((request, argument) => {
    const answer = answers[request];
    if (answer !== undefined && typeof argument !== 'number') new Uint8Array(argument.buffer, argument.byteOffset).set(answer);
    return 0;
  });
  const port = new KernelPort(openedAs('d0', calls.open(join(tree.paths.dev, 'device')), calls), { calls, reactor: new Reactor(calls), pool: new HandLanes(), clock: virtualClock() });
  const { value: mapping } = atOnce(port.map(0, area));
  expect([atOnce(port.irq({ index: 5 }, { ackFd: true })).error, atOnce(port.allocateDma(0x1000)).error]).toEqual([undefined, undefined]);

  expect(flagsAt(mapping?.address ?? 0n)).toContain('dc');
  const { stdout } = spawnSync('/bin/sh', ['-c', 'ls -l /proc/$$/fd; cat /proc/$$/maps'], { encoding: 'utf8' });
  expect(stdout).toContain('/bin/');
  expect(stdout.split('\n').filter((line) => line.includes(tree.paths.dev) || /eventfd|eventpoll/.test(line))).toEqual([]);
  port.close();
  expect(tree.open()).toEqual([]);
});
