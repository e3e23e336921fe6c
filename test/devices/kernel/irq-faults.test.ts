import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import type { IrqHandle } from '../../../src/devices/port.js';
import { VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_SET_DATA_EVENTFD } from '../../../src/devices/uapi/constants.js';
import { irqSetLayout } from '../../../src/devices/uapi/irq-set.js';
import { now } from '../../support/devices.js';
import type { FaultPlan } from '../../support/faulty-binding.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { countFds } from '../linux/process-state.js';
import { fields } from '../uapi/bytes-helpers.js';
import { callsWith, HandLanes, KernelTree, openedAs } from './doubles.js';

const errnos = ['EINTR', 'EAGAIN', 'EMFILE', 'ENOMEM', 'EBUSY'] as const;
type Errno = (typeof errnos)[number];

const codes: Readonly<Record<Errno, string>> = { EINTR: 'VFIO_E_CANCELED', EAGAIN: 'VFIO_E_BUSY', EMFILE: 'VFIO_E_LIMIT', ENOMEM: 'VFIO_E_LIMIT', EBUSY: 'VFIO_E_BUSY' };

/** Calls that `irqs(0, [0, 1, 2], { ackFd: true })` makes: three eventfds with an ack eventfd each, and so on; which of them fails. */
const faults: Readonly<Record<string, (errno: Errno) => { readonly plan?: FaultPlan; readonly setIrqs?: readonly (Errno | undefined)[] }>> = {
  'the first eventfd': (errno) => ({ plan: { eventfd: [errno] } }),
  'the last eventfd': (errno) => ({ plan: { eventfd: [undefined, undefined, undefined, undefined, undefined, errno] } }),
  'epoll_create': (errno) => ({ plan: { epollCreate: [errno] } }),
  'the first epoll_ctl': (errno) => ({ plan: { epollControl: [errno] } }),
  'the last epoll_ctl': (errno) => ({ plan: { epollControl: [undefined, undefined, errno] } }),
  'SET_IRQS of the triggers': (errno) => ({ setIrqs: [errno] }),
  'SET_IRQS of the ack eventfds': (errno) => ({ setIrqs: [undefined, errno] }),
};

let tree: KernelTree;
let fds: readonly number[];
let registered: Map<string, number>;
let port: KernelPort;
let reactor: Reactor;

const openFds = (): readonly number[] => [countFds('eventfd'), countFds('eventpoll')];

beforeEach(() => {
  tree = new KernelTree().file('device');
  registered = new Map();
  fds = openFds();
});

afterEach(() => {
  port.close();
  expect(openFds()).toEqual(fds);
  expect([...registered]).toEqual([]);
  tree[Symbol.dispose]();
});

/** A device with one irq of four maskable vectors, which keeps the books of what is registered. */
function open(plan: FaultPlan = {}, setIrqs: readonly (Errno | undefined)[] = []): void {
  let nth = 0;
  const calls = callsWith((request, argument) => {
    if (typeof argument === 'number') return 0;
    const bytes = new Uint8Array(argument.buffer, argument.byteOffset, argument.byteLength);
    if (request === VFIO_DEVICE_GET_IRQ_INFO) {
      bytes.set(fields(['u32', VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE]), 4);
      bytes.set(fields(['u32', 4]), 12);
    }
    if (request !== VFIO_DEVICE_SET_IRQS) return 0;
    const errno = setIrqs[nth++];
    if (errno === undefined) note(bytes);
    return errno ?? 0;
  }, plan);
  reactor = new Reactor(calls);
  port = new KernelPort(openedAs('d0', calls.open(join(tree.paths.dev, 'device')), calls), { calls, reactor, pool: new HandLanes(), clock: virtualClock() });
}

function note(bytes: Uint8Array): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [flags, start, count] = [irqSetLayout.flags, irqSetLayout.start, irqSetLayout.count].map((at) => view.getUint32(at, true)) as [number, number, number];
  if (count === 0) registered.clear();
  for (let n = 0; n < ((flags & VFIO_IRQ_SET_DATA_EVENTFD) === 0 ? 0 : count); n++) {
    const [key, fd] = [`${flags & 0x38}.${start + n}`, view.getInt32(irqSetLayout.data + 4 * n, true)];
    if (fd < 0) registered.delete(key);
    else registered.set(key, fd);
  }
}

const register = () => now(port.irqs(0, [0, 1, 2], { ackFd: true })) as [IrqHandle, IrqHandle, IrqHandle];

describe.each(Object.entries(faults))('%s fails', (_, faultOf) => {
  it.each(errnos)('with %s: a typed error that names the device, nothing is left, and it can be tried again', (errno) => {
    const { plan, setIrqs } = faultOf(errno);
    open(plan, setIrqs);
    expect(register).toThrow(expect.objectContaining({ code: codes[errno], errno, device: 'd0' }));
    expect([openFds(), [...registered], reactor.counters.slots, reactor.epollFd]).toEqual([fds, [], 0, undefined]);
    expect(register()).toHaveLength(3);
    expect(registered.size).toBe(6);
  });
});

/** The reactor has its epoll fd by then. */
describe.each(Object.entries(faults).filter(([what]) => what !== 'epoll_create'))('%s fails', (_, faultOf) => {
  it.each(errnos)('with %s while another vector is open, which stays', (errno) => {
    const { plan = {}, setIrqs = [] } = faultOf(errno);
    // The other vector makes one call of each kind first.
    const later = Object.fromEntries(Object.entries(plan).map(([name, answers]) => [name, [undefined, ...answers]]));
    open(later, [undefined, ...setIrqs]);
    const other = now(port.irq({ index: 0, vector: 3 }));
    const before = [...registered];
    expect(register).toThrow(expect.objectContaining({ code: codes[errno], errno }));
    expect([[...registered], reactor.counters.slots]).toEqual([before, 1]);
    now(other.trigger());
  });
});

describe('giving an irq back', () => {
  it.each(errnos)('that the kernel answers with %s: the error comes when all is closed', (errno) => {
    open({}, [undefined, undefined, errno]);
    const [first] = register();
    expect(() => now(first.close())).toThrow(expect.objectContaining({ errno }));
    expect(reactor.counters.slots).toBe(2);
    now(first.close());
  });
});

describe('waiting for a signal', () => {
  const waiting = (handle: IrqHandle): Promise<unknown> => new Promise((resolve) => {
    handle.next().subscribe({ next: ({ count }) => resolve(count), error: resolve });
  });

  /** As the kernel would, through the eventfd that is registered. */
  const signal = (count: bigint): void => {
    koffiBinding().writeCount(registered.get('32.0') ?? -1, count);
  };

  it.each([
    ['a read', { readCount: ['EINTR', 'EINTR'] }],
    ['a read that finds nothing', { readCount: ['EAGAIN'] }],
    ['epoll_wait', { epollWait: ['EINTR'] }],
  ] as const)('%s that is interrupted is made again: no signal is lost', async (_, plan) => {
    open(plan);
    const [first] = register();
    const heard = waiting(first);
    signal(3n);
    expect(await heard).toBe(3n);
  });

  it.each(['ENOMEM', 'EBUSY', 'EMFILE'] as const)('a read that fails with %s is a typed error, and the signal is there for the next', async (errno) => {
    open({ readCount: [errno] });
    const [first] = register();
    const failed = waiting(first);
    signal(3n);
    expect(await failed).toMatchObject({ code: codes[errno], errno, device: 'd0' });
    expect(await waiting(first)).toBe(3n);
  });

  it.each(errnos)('arming that fails with %s is a typed error, and can be tried again', async (errno) => {
    open({ epollControl: [undefined, undefined, undefined, errno] });
    const [first] = register();
    expect(await waiting(first)).toMatchObject({ code: codes[errno], errno, device: 'd0' });
    const heard = waiting(first);
    signal(1n);
    expect(await heard).toBe(1n);
  });

  it.each(errnos)('mask, unmask and loopback that the kernel answers with %s are typed errors', (errno) => {
    open({}, [undefined, undefined, errno, errno, errno]);
    const [first] = register();
    for (const call of [first.mask(), first.unmask(), first.trigger()]) expect(() => now(call)).toThrow(expect.objectContaining({ code: codes[errno], errno }));
    now(first.mask());
  });
});
