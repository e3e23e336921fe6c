import { spawnSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { VfioError } from '../../../src/errors.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import { Reactor, type ReactorSlot } from '../../../src/devices/linux/reactor.js';
import { Syscalls, linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { faultyBinding, type FaultPlan } from '../../support/faulty-binding.js';
import { childFile, countFds, epollTargets, nextTurn } from './process-state.js';

let reactor: Reactor;
let opened: { eventfd: Eventfd; slot: ReactorSlot }[];
let fdsBefore: readonly number[];

const fds = (): readonly number[] => [countFds('eventfd'), countFds('eventpoll')];

beforeEach(() => {
  fdsBefore = fds();
  reactor = new Reactor();
  opened = [];
});

afterEach(() => {
  for (const { eventfd, slot } of opened) {
    slot.close();
    eventfd.close();
  }
  // Every test, whatever it did: nothing is left open.
  expect(fds()).toEqual(fdsBefore);
  expect(reactor.epollFd).toBeUndefined();
});

function add(to: Reactor = reactor): { eventfd: Eventfd; slot: ReactorSlot } {
  const eventfd = new Eventfd();
  const entry = { eventfd, slot: to.add(eventfd.fd) };
  opened.push(entry);
  return entry;
}

/** The next signal of a slot. */
function next(slot: ReactorSlot): Promise<{ readonly count: bigint; readonly atNs: bigint }> {
  return new Promise((resolve, reject) => {
    slot.arm((count, atNs) => {
      resolve({ count, atNs });
    }, reject);
  });
}

/** Has the loop served everything that is ready: a signal sent after all others has come. */
async function settled(): Promise<void> {
  const { eventfd, slot } = add();
  eventfd.write(1n);
  await next(slot);
  await nextTurn();
}

describe('delivery', () => {
  test('a signal comes once, with its count and the time the loop took it', async () => {
    const { eventfd, slot } = add();
    const before = process.hrtime.bigint();
    eventfd.write(3n);
    eventfd.write(4n);
    const { count, atNs } = await next(slot);
    expect(count).toBe(7n);
    expect(atNs).toBeGreaterThan(before);
    expect(atNs).toBeLessThan(process.hrtime.bigint());
    expect(slot.armed).toBe(false);
  });

  test('a saturated count arrives whole', async () => {
    const { eventfd, slot } = add();
    eventfd.write(2n ** 64n - 2n);
    expect((await next(slot)).count).toBe(2n ** 64n - 2n);
  });

  test('not armed: nothing is delivered, the count adds up, and the loop is left alone', async () => {
    const { eventfd, slot } = add();
    eventfd.write(1n);
    await next(slot);
    eventfd.write(2n);
    eventfd.write(3n);
    const { delivered } = reactor.counters;
    for (let turn = 0; turn < 100; turn++) await nextTurn();
    const { wakes } = reactor.counters;
    for (let turn = 0; turn < 1000; turn++) await nextTurn();
    expect(reactor.counters.delivered).toBe(delivered);
    expect(reactor.counters.wakes).toBe(wakes);
    expect((await next(slot)).count).toBe(5n);
  });

  test('an unread signal wakes the loop once, not for ever', async () => {
    const { eventfd, slot } = add();
    let deliveries = 0;
    slot.arm(() => {
      deliveries++;
      eventfd.write(1n);
    });
    eventfd.write(1n);
    for (let turn = 0; turn < 1000; turn++) await nextTurn();
    expect(deliveries).toBe(1);
    expect(reactor.counters.wakes).toBeLessThanOrEqual(2);
  });

  test('the kernel watches a fd only while it is armed', () => {
    const { slot } = add();
    const epollFd = reactor.epollFd ?? -1;
    expect(epollTargets(epollFd)).toEqual({ total: 1, armed: 0 });
    slot.arm(() => undefined);
    expect(epollTargets(epollFd)).toEqual({ total: 1, armed: 1 });
    slot.disarm();
    expect(epollTargets(epollFd)).toEqual({ total: 1, armed: 0 });
  });

  test('armed again in its callback, a slot gets every signal', async () => {
    const { eventfd, slot } = add();
    const counts: bigint[] = [];
    await new Promise<void>((resolve) => {
      const deliver = (count: bigint): void => {
        counts.push(count);
        if (counts.length === 500) {
          resolve();
          return;
        }
        slot.arm(deliver);
        eventfd.write(BigInt(counts.length));
      };
      slot.arm(deliver);
      eventfd.write(1000n);
    });
    expect(counts).toEqual([1000n, ...Array.from({ length: 499 }, (_, index) => BigInt(index + 1))]);
  });

  test('a signal that somebody else read leaves the slot armed', async () => {
    const thief = new Reactor(new Syscalls(faultyBinding(koffiBinding(), { readCount: ['EAGAIN'] })));
    const { eventfd, slot } = add(thief);
    eventfd.write(9n);
    expect((await next(slot)).count).toBe(9n);
    expect(thief.counters).toMatchObject({ empty: 1, delivered: 1 });
  });

  test('promises and ticks of a callback run before the next turn', async () => {
    const { eventfd, slot } = add();
    const order: string[] = [];
    for (let round = 0; round < 20; round++) {
      await new Promise<void>((resolve) => {
        slot.arm(() => {
          void Promise.resolve().then(() => order.push('microtask'));
          process.nextTick(() => order.push('tick'));
          setImmediate(() => {
            order.push('immediate');
            resolve();
          });
        });
        eventfd.write(1n);
      });
    }
    expect(order).toHaveLength(60);
    for (let round = 0; round < 60; round += 3) expect(order[round + 2]).toBe('immediate');
  });
});

describe('many', () => {
  test('4,096 eventfds are served through one epoll fd, round after round', async () => {
    const epollsBefore = countFds('eventpoll');
    const all = Array.from({ length: 4096 }, () => add());
    expect(countFds('eventpoll')).toBe(epollsBefore + 1);
    expect(epollTargets(reactor.epollFd ?? -1)).toEqual({ total: 4096, armed: 0 });
    for (let round = 1; round <= 3; round++) {
      const counts = all.map(({ slot }) => next(slot));
      expect(epollTargets(reactor.epollFd ?? -1).armed).toBe(4096);
      all.forEach(({ eventfd }, index) => eventfd.write(BigInt(index + round)));
      const received = await Promise.all(counts);
      expect(received.map(({ count }) => count)).toEqual(all.map((_, index) => BigInt(index + round)));
    }
    expect(reactor.counters).toMatchObject({ slots: 4096, armed: 0, delivered: 3 * 4096, stale: 0, empty: 0 });
  }, 30_000);

  test('a flood cannot keep the loop from its turn', async () => {
    const bounded = new Reactor(undefined, { batch: 8, perWake: 16 });
    const all = Array.from({ length: 64 }, () => add(bounded));
    let flooding = true;
    for (const { eventfd, slot } of all) {
      const again = (): void => {
        if (!flooding) return;
        slot.arm(again);
        eventfd.write(1n);
      };
      slot.arm(again);
      eventfd.write(1n);
    }
    for (let turn = 0; turn < 50; turn++) await nextTurn();
    flooding = false;
    expect(bounded.counters.delivered).toBeGreaterThan(100);
    // 16 a wake, and up to one batch more that was taken already.
    expect(bounded.counters.delivered).toBeLessThanOrEqual(bounded.counters.wakes * (16 + 8));
  });
});

describe('changes within a batch', () => {
  test('a slot closed by an earlier callback gets nothing, and its successor no old event', async () => {
    const first = add();
    const second = add();
    const stray: bigint[] = [];
    let reused: { eventfd: Eventfd; slot: ReactorSlot } | undefined;
    const victims = [first, second];
    for (const [index, { slot }] of victims.entries()) {
      slot.arm(() => {
        const other = victims[1 - index];
        other?.slot.close();
        reused = add();
        reused.slot.arm((count) => stray.push(count));
      });
    }
    first.eventfd.write(1n);
    second.eventfd.write(1n);
    await settled();
    expect(reactor.counters.delivered).toBe(2);
    expect(reactor.counters.stale).toBe(1);
    expect(stray).toEqual([]);
    reused?.eventfd.write(6n);
    await settled();
    expect(stray).toEqual([6n]);
  });

  test('a slot disarmed by an earlier callback keeps its signal', async () => {
    const pair = [add(), add()] as const;
    let served = 0;
    pair.forEach(({ slot }, index) => {
      slot.arm(() => {
        served++;
        pair[1 - index]?.slot.disarm();
      });
    });
    pair[0].eventfd.write(5n);
    pair[1].eventfd.write(5n);
    await settled();
    expect(served).toBe(1);
    const left = pair.find(({ eventfd }) => eventfd.read() === 5n);
    expect(left).toBeDefined();
  });

  test('closing in its own callback is fine, the last slot too', async () => {
    const { eventfd, slot } = add();
    await new Promise<void>((resolve) => {
      slot.arm(() => {
        slot.close();
        slot.close();
        resolve();
      });
      eventfd.write(1n);
    });
    await nextTurn();
    expect(reactor.epollFd).toBeUndefined();
    expect(() => {
      slot.arm(() => undefined);
    }).toThrow(expect.objectContaining({ code: 'VFIO_E_CLOSED' }));
  });

  test('an exception costs neither the batch nor the slot', async () => {
    const caught: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => caught.push(error));
    try {
      const all = Array.from({ length: 5 }, () => add());
      let served = 0;
      for (const { eventfd, slot } of all) {
        slot.arm(() => {
          served++;
          throw new Error(`consumer ${String(served)}`);
        });
        eventfd.write(1n);
      }
      await settled();
      expect(served).toBe(5);
      expect(caught.map(String)).toEqual([1, 2, 3, 4, 5].map((n) => `Error: consumer ${String(n)}`));
      const first = all[0];
      first?.eventfd.write(2n);
      if (first !== undefined) expect((await next(first.slot)).count).toBe(2n);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
  });
});

describe('failures', () => {
  const faulty = (plan: FaultPlan): Reactor => new Reactor(new Syscalls(faultyBinding(koffiBinding(), plan)));

  test.each([
    ['the epoll fd', { epollCreate: ['EMFILE'] }, 'VFIO_E_LIMIT'],
    ['the registration', { epollControl: ['ENOSPC'] }, 'VFIO_E_LIMIT'],
  ] as const)('no room for %s: a typed error, nothing stays open, and the next try works', async (_, plan, code) => {
    const broken = faulty(plan);
    const eventfd = new Eventfd();
    expect(() => broken.add(eventfd.fd)).toThrow(expect.objectContaining({ code }));
    expect(broken.epollFd).toBeUndefined();
    const slot = broken.add(eventfd.fd);
    opened.push({ eventfd, slot });
    eventfd.write(1n);
    expect((await next(slot)).count).toBe(1n);
  });

  test('the same fd twice, and a file that cannot be polled, are refused', () => {
    const { eventfd } = add();
    expect(() => reactor.add(eventfd.fd)).toThrow(expect.objectContaining({ errno: 'EEXIST' }));
    const calls = linuxSyscalls();
    const file = calls.open('/proc/self/maps', 0);
    expect(() => reactor.add(file)).toThrow(expect.objectContaining({ errno: 'EPERM' }));
    calls.close(file);
    expect(reactor.counters.slots).toBe(1);
  });

  test('a read that fails is told once, and not watched on', async () => {
    const broken = faulty({ readCount: ['EIO'] });
    const { eventfd, slot } = add(broken);
    eventfd.write(1n);
    const error = await new Promise<VfioError>((resolve) => {
      slot.arm(() => undefined, resolve);
    });
    expect(error).toMatchObject({ code: 'VFIO_E_IO', errno: 'EIO', operation: 'read eventfd' });
    expect(slot.armed).toBe(false);
    expect(epollTargets(broken.epollFd ?? -1).armed).toBe(0);
    expect((await next(slot)).count).toBe(1n);
  });

  test('a fd closed before its slot is no error', () => {
    const { eventfd, slot } = add();
    eventfd.close();
    slot.close();
    expect(reactor.epollFd).toBeUndefined();
  });
});

describe('lifetime', () => {
  test.each([
    ['armed slots keep a process alive, others do not', 'reactor-exit.ts', 'delivered 1\nleft with an idle slot\n'],
    ['process.exit() with an open reactor', 'reactor-process-exit.ts', 'leaving\n'],
  ])('%s', (_, file, output) => {
    const child = spawnSync(process.execPath, ['--import', 'tsx', childFile(file)], { encoding: 'utf8', timeout: 30_000 });
    expect(child.stderr).toBe('');
    expect(child.stdout).toBe(output);
    expect(child.status).toBe(0);
  });
});

describe('a slot that is no eventfd', () => {
  test('tells once that it can be read or written, and reads nothing itself', async () => {
    const reactor = new Reactor();
    const eventfd = new Eventfd();
    const slot = reactor.addReady(eventfd.fd);
    const told: string[] = [];
    const ready = (what: string, wanted: 'input' | 'output' | 'both'): Promise<void> =>
      new Promise((resolve) => {
        slot.arm(() => {
          told.push(what);
          resolve();
        }, wanted);
      });
    // An empty eventfd can be written, and not read.
    await ready('output', 'output');
    slot.arm(() => told.push('never'), 'input');
    await ready('both', 'both');
    eventfd.write(3n);
    await ready('input', 'input');
    expect(told).toEqual(['output', 'both', 'input']);
    expect(eventfd.read()).toBe(3n);
    expect(slot.armed).toBe(false);
    slot.close();
    slot.close();
    eventfd.close();
    expect(reactor.epollFd).toBeUndefined();
  });
});
