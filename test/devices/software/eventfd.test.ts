import { describe, expect, it } from 'vitest';
import { largestCount, largestWritten, outsideCallbacks, SoftEventfd } from '../../../src/devices/software/eventfd.js';

describe('SoftEventfd', () => {
  it('adds counts, and does not OR them', () => {
    const fd = new SoftEventfd();
    fd.add(1n);
    fd.add(1n);
    expect(fd.read()).toBe(2n);
    expect(fd.read()).toBeUndefined();
  });

  it('is readable for whoever wrote to it', () => {
    const fd = new SoftEventfd();
    expect(fd.write(1n)).toBeUndefined();
    fd.add(4n);
    expect(fd.read()).toBe(5n);
  });

  it('tells the driver of a write of 0, and counts nothing', () => {
    const fd = new SoftEventfd();
    let heard = 0;
    let readable = 0;
    fd.listen({ written: () => { heard += 1; }, hungUp: () => undefined });
    fd.arm(() => { readable += 1; });
    fd.write(0n);
    expect({ heard, readable, count: fd.count }).toEqual({ heard: 1, readable: 0, count: 0n });
  });

  it('tells the driver of its own adds, of reads that took something, and of each write beside the count it finds', () => {
    const fd = new SoftEventfd();
    const heard: string[] = [];
    const hear = (what: string) => () => { heard.push(`${what} ${fd.count}`); };
    fd.listen({ added: hear('added'), written: hear('written'), read: hear('read'), hungUp: hear('hung up') });
    fd.add(2n);
    fd.read();
    fd.read(); // EAGAIN
    fd.write(3n);
    expect(fd.take()).toBe(3n); // not heard
    fd.close();
    fd.close();
    expect(heard).toEqual(['added 2', 'read 0', 'written 3', 'hung up 0']);
  });

  it('loses an add from inside a wait callback, of whichever eventfd; a work item makes it', () => {
    const [one, other] = [new SoftEventfd(), new SoftEventfd()];
    one.listen({ written: () => { other.add(1n); }, hungUp: () => undefined });
    one.write(1n);
    expect(other.count).toBe(0n);
    one.listen({ written: () => { outsideCallbacks(() => { other.add(1n); }); }, hungUp: () => undefined });
    one.write(1n);
    expect(other.count).toBe(1n);
  });

  it('keeps its count when nobody is registered any more: a reused one brings old signals along', () => {
    const fd = new SoftEventfd();
    fd.listen({ hungUp: () => undefined });
    fd.add(4n);
    fd.listen(undefined);
    expect(fd.read()).toBe(4n);
  });

  it('refuses a write that would pass 2^64-2 with EAGAIN, and one of 2^64-1 with EINVAL', () => {
    const fd = new SoftEventfd({ initial: largestWritten - 1n });
    expect(fd.write(2n)).toBe('EAGAIN');
    expect(fd.write(1n)).toBeUndefined();
    expect(fd.count).toBe(largestWritten);
    expect(new SoftEventfd().write(largestCount)).toBe('EINVAL');
  });

  it('clamps the adds of the driver at 2^64-1', () => {
    const fd = new SoftEventfd({ initial: largestWritten });
    fd.add(5n);
    expect(fd.read()).toBe(largestCount);
  });

  it('is one-shot: what comes after the call rests until it is armed again', () => {
    const fd = new SoftEventfd();
    let calls = 0;
    const arm = (): void => { fd.arm(() => { calls += 1; }); };
    arm();
    fd.add(1n);
    fd.add(1n);
    expect(calls).toBe(1);
    arm();
    expect(calls).toBe(2);
  });

  it('does not call once it is disarmed', () => {
    const fd = new SoftEventfd();
    let calls = 0;
    fd.arm(() => { calls += 1; })();
    fd.add(1n);
    expect(calls).toBe(0);
  });

  it('reads 1 at a time with EFD_SEMAPHORE', () => {
    const fd = new SoftEventfd({ initial: 3n, semaphore: true });
    expect([fd.read(), fd.read(), fd.read(), fd.read()]).toEqual([1n, 1n, 1n, undefined]);
  });
});
