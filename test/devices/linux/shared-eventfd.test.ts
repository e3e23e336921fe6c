import { describe, expect, it } from 'vitest';
import { linux } from '../../../src/devices/linux/binding.js';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import { writeShared } from '../../../src/devices/linux/shared-eventfd.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';

const { binding } = linuxSyscalls();
const full = 2n ** 64n - 2n;
/** As if whoever has it, too, had taken O_NONBLOCK off at once. */
const waiting = new Syscalls({ ...binding, eventfd: (initial, flags) => binding.eventfd(initial, flags & ~linux.O_NONBLOCK) });

describe('an eventfd that another process has, too', () => {
  it('is not waited for by a read, where there is nothing', () => {
    const eventfd = new Eventfd(waiting, undefined, true);
    expect([binding.nonBlocking(eventfd.fd), eventfd.read()]).toEqual([false, undefined]);
    eventfd.write(3n);
    expect([eventfd.read(), eventfd.read()]).toEqual([3n, undefined]);
    eventfd.close();
  });

  it('is not waited for by a write, where there is no room for all of it', () => {
    const eventfd = new Eventfd(waiting, undefined, true);
    expect([eventfd.write(full - 2n), eventfd.write(3n), eventfd.write(2n), eventfd.write(1n), eventfd.read()]).toEqual([true, false, true, false, full]);
    eventfd.close();
  });

  it('is not waited for by a reactor, where somebody else was the first to read', async () => {
    const reactor = new Reactor(waiting);
    const [theirs, ours] = [new Eventfd(waiting, undefined, true), new Eventfd(waiting)];
    const [slot, own] = [reactor.add(theirs.fd, true), reactor.add(ours.fd)];
    const heard: bigint[] = [];
    const both = new Promise<void>((resolve) => {
      own.arm(() => theirs.read());
      slot.arm((count) => {
        heard.push(count);
        resolve();
      });
    });
    // Both are ready in the same turn, and what the first of them does empties the other.
    ours.write(1n);
    theirs.write(5n);
    while (reactor.counters.empty === 0) await new Promise((resolve) => setImmediate(resolve));
    theirs.write(7n);
    await both;
    expect(heard).toEqual([7n]);
    for (const one of [slot, own]) one.close();
    for (const one of [theirs, ours]) one.close();
  });

  it('where no fd is left to ask the kernel with has room for one', () => {
    const fd = binding.eventfd(0, linux.O_NONBLOCK);
    // A file that is none cannot be asked either.
    const blind = { ...binding, nonBlocking: () => false, takesWrite: () => true };
    expect([writeShared(blind, fd, 1n), writeShared({ ...blind, takesWrite: () => false }, fd, 1n)]).toEqual([8, -11]);
    binding.close(fd);
  });
});
