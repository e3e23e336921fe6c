import { describe, expect, it } from 'vitest';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { eventfdFacts } from '../../../src/devices/linux/eventfd-facts.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';

const calls = linuxSyscalls();

describe('eventfdFacts', () => {
  it('knows an eventfd by whatever fd, and its count', () => {
    const [one, other] = [new Eventfd(), new Eventfd()];
    one.write(0x1_0000_0000_0002n);
    const copy = calls.dup(one.fd);
    expect(eventfdFacts(copy)).toMatchObject({ count: 0x1_0000_0000_0002n, semaphore: false });
    expect(eventfdFacts(copy)?.id).toBe(eventfdFacts(one.fd)?.id);
    expect(eventfdFacts(other.fd)?.id).not.toBe(eventfdFacts(one.fd)?.id);
    calls.close(copy);
    for (const eventfd of [one, other]) eventfd.close();
  });

  it('knows what is none', () => {
    const memory = calls.memfd('facts', 4096);
    expect(eventfdFacts(memory)).toBeUndefined();
    calls.close(memory);
  });

  it('a full eventfd takes no write', () => {
    const full = new Eventfd();
    expect(calls.binding.takesWrite(full.fd)).toBe(true);
    full.write(2n ** 64n - 2n);
    expect(calls.binding.takesWrite(full.fd)).toBe(false);
    full.close();
  });
});
