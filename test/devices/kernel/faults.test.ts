import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { linux } from '../../../src/devices/linux/binding.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import type { Call, DevicePort } from '../../../src/devices/port.js';
import { VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_GET_REGION_INFO } from '../../../src/devices/uapi/constants.js';
import { VfioError } from '../../../src/errors.js';
import { atOnce } from '../../../src/testing/conformance/port/steps.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { fields } from '../uapi/bytes-helpers.js';
import { irqInfo, regionInfo } from '../uapi/encoders.js';
import { callsWith, HandLanes, KernelTree, openedAs } from './doubles.js';

const page = koffiBinding().pageSize;
const area = { offset: 0, size: 2 * page };

/** What each errno is to a caller. */
const codes = { EINTR: 'VFIO_E_CANCELED', EAGAIN: 'VFIO_E_BUSY', EMFILE: 'VFIO_E_LIMIT', ENOMEM: 'VFIO_E_LIMIT', EBUSY: 'VFIO_E_BUSY' } as const;
type Errno = keyof typeof codes;
const errnos = Object.keys(codes) as readonly Errno[];

let tree: KernelTree;
let port: DevicePort;
/** The next ioctl of this number fails so. */
let failing: { readonly request: number; readonly errno: Errno } | undefined;

/** A device of one region; the nth use of each call fails as planned, counted from the opening of its file. */
function open(plan: FaultPlan = {}): void {
  const answers: Readonly<Record<number, Uint8Array>> = {
    [VFIO_DEVICE_GET_INFO]: fields(['u32', 24], ['u32', 2], ['u32', 9], ['u32', 5], ['u32', 0], ['u32', 0]),
    [VFIO_DEVICE_GET_REGION_INFO]: regionInfo({ index: 0, flags: 7, size: 16 * page, offset: 0 }),
    [VFIO_DEVICE_GET_IRQ_INFO]: irqInfo({ index: 1, flags: 9, count: 1 }),
  };
  const calls = callsWith((request, argument) => {
    if (failing?.request === request) {
      const { errno } = failing;
      failing = undefined;
      return errno;
    }
    const answer = answers[request];
    if (answer !== undefined && typeof argument !== 'number') new Uint8Array(argument.buffer, argument.byteOffset).set(answer);
    return 0;
  }, plan);
  const fd = koffiBinding().open(join(tree.paths.dev, 'device'), linux.O_RDWR);
  port = new KernelPort(openedAs('d0', fd, calls), { calls, reactor: new Reactor(calls), pool: new HandLanes(), clock: virtualClock() });
}

const mapped = (): number => readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.includes(tree.paths.dev)).length;

function thrown(work: () => unknown): VfioError {
  try {
    work();
  } catch (error) {
    if (VfioError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

beforeEach(() => {
  tree = new KernelTree().file('device');
  failing = undefined;
});

afterEach(() => {
  port.close();
  expect([tree.open(), mapped()]).toEqual([[], 0]);
  tree[Symbol.dispose]();
});

describe.each(errnos)('%s', (errno) => {
  const expected = { code: codes[errno], errno, device: 'd0' };

  it.each([
    ['info', VFIO_DEVICE_GET_INFO, () => port.info()],
    ['regionInfo', VFIO_DEVICE_GET_REGION_INFO, () => port.regionInfo(0)],
    ['irqInfo', VFIO_DEVICE_GET_IRQ_INFO, () => port.irqInfo(1)],
    ['map, which asks for the layout', VFIO_DEVICE_GET_REGION_INFO, () => port.map(0, area)],
  ] as readonly (readonly [string, number, () => Call<unknown>])[])('of %s: a typed error, and the next call is made', (_, request, call) => {
    open();
    failing = { request, errno };
    expect(atOnce(call()).error).toMatchObject(expected);
    expect(mapped()).toBe(0);
    expect(atOnce(call())).toMatchObject({ error: undefined, answered: true });
  });

  it.each([
    ['mmap that reserves', { mmap: [errno] }],
    ['mmap of the device', { mmap: [undefined, errno] }],
    ['madvise', { madvise: [errno] }],
  ] as const)('of %s: nothing stays mapped, and the next one works', (_, plan) => {
    open(plan);
    const { error } = atOnce(port.map(0, area));
    // EAGAIN of mmap is a limit, too: of locked memory.
    expect(error).toMatchObject({ ...expected, ...(errno === 'EAGAIN' && 'mmap' in plan ? { code: 'VFIO_E_LIMIT' } : {}) });
    expect(mapped()).toBe(0);
    expect(atOnce(port.map(0, area)).error).toBeUndefined();
    expect(mapped()).toBe(1);
  });

  it('of the mmap that takes an area away: it is still there, or gone, and says which', () => {
    open({ mmap: [undefined, undefined, errno] });
    const { value: mapping } = atOnce(port.map(0, area));
    if (mapping === undefined) throw new Error('not mapped');
    const { error } = atOnce(port.unmap(mapping));
    // Without room for writable zero pages there are others.
    if (errno === 'ENOMEM') expect([error, mapped()]).toEqual([undefined, 0]);
    else {
      expect(error).toMatchObject({ errno });
      expect(mapped()).toBe(1);
      expect([atOnce(port.unmap(mapping)).error, mapped()]).toEqual([undefined, 0]);
    }
  });

  it('of the munmap that gives address space back: closing says so, and lets the rest go', () => {
    open({ munmap: [errno] });
    const { value: mapping } = atOnce(port.map(0, area));
    const failed: unknown[] = [];
    port.released.subscribe({ next: (report) => { if (report.error !== undefined) failed.push(report.error); }, error: (error: unknown) => failed.push(error) });
    port.close();
    expect(failed).toEqual([expect.objectContaining({ errno })]);
    expect([tree.open(), mapped()]).toEqual([[], 0]);
    koffiBinding().munmap(Number(mapping?.address), area.size);
  });

  it('of pread and pwrite: interrupted ones are made again, others are typed', () => {
    open({ pread: [errno], pwrite: [errno] });
    const read = () => port.accessNow({ region: 0, offset: 0, readBytes: 4 });
    const write = () => port.accessNow({ region: 0, offset: 0, write: Uint8Array.of(7, 0, 0, 0) });
    if (errno !== 'EINTR') for (const access of [read, write]) expect(thrown(access)).toMatchObject(expected);
    write();
    expect([...read()]).toEqual([7, 0, 0, 0]);
  });
});
