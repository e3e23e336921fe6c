import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Eventfd } from '../../../src/devices/linux/eventfd.js';
import { mostGathered } from '../../../src/devices/linux/message-socket.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import { closing, pair } from './socket-pair.js';

const calls = linuxSyscalls();
/** The same calls, and which of them sent how many bytes. */
function counted(): { readonly calls: Syscalls; readonly sends: number[] } {
  const sends: number[] = [];
  const { binding } = calls;
  const noted = (sent: number): number => {
    sends.push(sent);
    return sent;
  };
  return { sends, calls: new Syscalls({ ...binding, transmit: (...args) => noted(binding.transmit(...args)), sendMessage: (...args) => noted(binding.sendMessage(...args)) }) };
}

function openFds(): number {
  return readdirSync('/proc/self/fd').length;
}

describe('MessageSocket', () => {
  it('carries bytes, and with the first of them file descriptors that work at the other end', async () => {
    const { a, atB } = pair();
    const eventfd = new Eventfd();
    closing.push(() => eventfd.close());
    a.send(Uint8Array.of(1, 2, 3), [eventfd.fd]);
    await atB.until(() => atB.heard.length > 0);
    const [{ bytes, fds } = { bytes: [], fds: [] }] = atB.heard;
    expect(bytes).toEqual([1, 2, 3]);
    expect(fds).toHaveLength(1);
    const [fd = -1] = fds;
    closing.push(() => calls.close(fd));
    calls.writeCount(fd, 5n);
    expect(eventfd.read()).toBe(5n);
  });

  it('never reads more than is wanted, so that fds stand with the message that they came with', async () => {
    const { a, atB } = pair();
    const eventfd = new Eventfd();
    closing.push(() => eventfd.close());
    atB.most = 2;
    a.send(Uint8Array.of(1, 2));
    a.send(Uint8Array.of(3, 4), [eventfd.fd, eventfd.fd]);
    await atB.until(() => atB.heard.length === 2);
    closing.push(() => atB.heard.forEach(({ fds }) => fds.forEach((fd) => calls.close(fd))));
    expect(atB.heard.map(({ bytes, fds }) => [bytes, fds.length])).toEqual([[[1, 2], 0], [[3, 4], 2]]);
  });

  it('queues what the other side does not take, in order, and sends it when it does', async () => {
    const { a, b, atB } = pair();
    b.pause();
    const chunk = new Uint8Array(100_000);
    for (let n = 0; n < 20; n += 1) a.send(chunk.fill(n));
    const eventfd = new Eventfd();
    a.send(Uint8Array.of(99), [eventfd.fd]);
    // A duplicate waits with it.
    eventfd.close();
    b.resume();
    const length = (): number => atB.heard.reduce((sum, { bytes }) => sum + bytes.length, 0);
    await atB.until(() => length() === 2_000_001);
    const all = atB.heard.flatMap(({ bytes }) => bytes);
    expect([all[0], all[99_999], all[100_000], all.at(-2), all.at(-1)]).toEqual([0, 0, 1, 19, 99]);
    const fds = atB.heard.flatMap((one) => one.fds);
    expect(fds).toHaveLength(1);
    closing.push(() => fds.forEach((fd) => calls.close(fd)));
  });

  it('refuses to queue without end', () => {
    const { a, b } = pair();
    b.pause();
    const chunk = new Uint8Array(1 << 20);
    expect(() => {
      for (let n = 0; n < 100; n += 1) a.send(chunk);
    }).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT' }));
  });

  it('tells the end of the other side once, and keeps its own end until it is closed', async () => {
    const { a, b, atA, atB } = pair();
    a.send(Uint8Array.of(7));
    a.end();
    await atB.until(() => atB.ends.length > 0);
    expect(atB.heard).toHaveLength(1);
    expect(atB.ends).toEqual([undefined]);
    expect(() => b.send(Uint8Array.of(1))).toThrow(expect.objectContaining({ code: 'VFIO_E_NO_DEVICE' }));
    expect(atA.ends).toEqual([]);
    b.close();
    await atA.until(() => atA.ends.length > 0);
  });

  it('ends with what its user throws', async () => {
    const { a, atB } = pair();
    const broken = new Error('no message of mine');
    atB.received = () => {
      throw broken;
    };
    a.send(Uint8Array.of(1));
    await atB.until(() => atB.ends.length > 0);
    expect(atB.ends).toEqual([broken]);
  });

  it('refuses more fds than this process has room for, and leaves none open', async () => {
    const before = openFds();
    const { a, b, atB } = pair();
    const eventfd = new Eventfd();
    a.send(Uint8Array.of(1), Array.from({ length: 253 }, () => eventfd.fd));
    await atB.until(() => atB.heard.length > 0);
    expect(atB.heard[0]?.fds).toHaveLength(253);
    for (const fd of atB.heard[0]?.fds ?? []) calls.close(fd);
    expect(() => a.send(Uint8Array.of(1), Array.from({ length: 254 }, () => eventfd.fd))).toThrow(/EINVAL/);
    eventfd.close();
    a.close();
    b.close();
    expect(openFds()).toBe(before);
  });

  it('gathers what is sent while bytes are handed out, in order, and sends it with one call when that is done', async () => {
    const { calls: counting, sends } = counted();
    const { a, b, atA, atB } = pair(counting);
    const eventfd = new Eventfd();
    closing.push(() => eventfd.close());
    atB.received = () => {
      for (let n = 0; n < 10; n += 1) b.send(Uint8Array.of(n, n));
      expect(sends.splice(0)).toEqual([1]);
      b.send(Uint8Array.of(10), [eventfd.fd]);
      expect(sends.splice(0)).toEqual([20, 1]);
      b.outbox.setUint8(b.begin(1), 11);
      b.commit(1);
      b.send(Uint8Array.of(12));
    };
    a.send(Uint8Array.of(1));
    await atA.until(() => atA.heard.reduce((sum, { bytes }) => sum + bytes.length, 0) === 23);
    closing.push(() => atA.heard.forEach(({ fds }) => fds.forEach((fd) => calls.close(fd))));
    expect(sends).toEqual([2]);
    expect(atA.heard.flatMap(({ bytes }) => bytes)).toEqual([...Array.from({ length: 20 }, (_, n) => n >> 1), 10, 11, 12]);
    expect(atA.heard.flatMap(({ fds }) => fds)).toHaveLength(1);
    // Otherwise nothing waits for anything.
    a.send(Uint8Array.of(1));
    a.send(Uint8Array.of(2));
    expect(sends).toEqual([2, 1, 1]);
  });

  it('gathers no more than there is room for, and takes with it what was gathered when it ends', async () => {
    const { calls: counting, sends } = counted();
    const { a, b, atA, atB } = pair(counting);
    const message = new Uint8Array(mostGathered);
    atB.received = () => {
      for (let n = 0; n < 17; n += 1) b.send(message.fill(n));
      expect(sends.splice(0)).toEqual([1, 16 * mostGathered]);
      b.end();
      expect(sends.splice(0)).toEqual([mostGathered]);
      b.send(message);
      b.close();
    };
    a.send(Uint8Array.of(1));
    await atA.until(() => atA.ends.length > 0);
    expect(atA.heard.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBe(17 * mostGathered);
  });

  it('is lost where what was gathered cannot be sent: those who gathered it wait for an answer', async () => {
    const { a, b, atB } = pair();
    atB.received = () => {
      b.send(Uint8Array.of(1));
      a.close();
      expect(() => b.send(new Uint8Array(mostGathered + 1))).toThrow(expect.objectContaining({ code: 'VFIO_E_NO_DEVICE' }));
    };
    a.send(Uint8Array.of(1));
    await atB.until(() => atB.ends.length > 0);
    expect(atB.ends).toEqual([expect.objectContaining({ code: 'VFIO_E_NO_DEVICE', errno: 'EPIPE' })]);
  });

  it('stays where the kernel refuses one message with fds, also while bytes are handed out', async () => {
    const { binding } = calls;
    const noBuffers = -105;
    const { a, b, atB } = pair(new Syscalls({ ...binding, sendMessage: (fd, bytes, fds) => (fds.length > 0 ? noBuffers : binding.sendMessage(fd, bytes, fds)) }));
    const eventfd = new Eventfd();
    atB.received = (bytes, fds) => {
      atB.heard.push({ bytes: [...bytes], fds });
      expect(() => b.send(Uint8Array.of(1), [eventfd.fd])).toThrow(expect.objectContaining({ errno: 'ENOBUFS' }));
      b.send(Uint8Array.of(2));
      atB.told();
    };
    a.send(Uint8Array.of(1));
    await atB.until(() => atB.heard.length + atB.ends.length === 1);
    a.send(Uint8Array.of(3));
    await atB.until(() => atB.heard.length + atB.ends.length === 2);
    eventfd.close();
    expect([atB.ends, atB.heard.map(({ bytes }) => bytes)]).toEqual([[], [[1], [3]]]);
  });

  it('still reads what the other side had said before it went, where an answer to the first of it cannot be sent', async () => {
    const { a, b, atB } = pair();
    atB.most = 2;
    atB.received = (bytes) => {
      atB.heard.push({ bytes: [...bytes], fds: [] });
      b.send(Uint8Array.of(1));
    };
    a.send(Uint8Array.of(1, 2, 3, 4, 5, 6));
    a.close();
    await atB.until(() => atB.ends.length > 0);
    expect(atB.heard.map(({ bytes }) => bytes)).toEqual([[1, 2], [3, 4], [5, 6]]);
    expect(atB.ends).toEqual([expect.objectContaining({ code: 'VFIO_E_NO_DEVICE', errno: 'EPIPE' })]);
  });

  it('still reads what the other side had said before it went, where what waited cannot be sent', async () => {
    const { a, b, atB } = pair();
    a.pause();
    b.send(new Uint8Array(1 << 20));
    atB.most = 2;
    a.send(Uint8Array.of(1, 2, 3, 4));
    a.close();
    await atB.until(() => atB.ends.length > 0);
    expect(atB.heard.map(({ bytes }) => bytes)).toEqual([[1, 2], [3, 4]]);
    // What it says last is whether it had read everything.
    expect(atB.ends).toEqual([expect.objectContaining({ errno: expect.stringMatching(/EPIPE|ECONNRESET/) as string })]);
  });

  it('is lost where what waited cannot be sent and nothing is read', async () => {
    const { a, b, atB } = pair();
    a.pause();
    b.send(new Uint8Array(1 << 20));
    b.pause();
    a.send(Uint8Array.of(1));
    a.close();
    await atB.until(() => atB.ends.length > 0);
    expect([atB.heard, atB.ends]).toEqual([[], [expect.objectContaining({ code: 'VFIO_E_NO_DEVICE' })]]);
  });

  it('keeps no more than 256 fds for one who takes nothing', async () => {
    const before = openFds();
    const { a, b, atB } = pair();
    b.pause();
    a.send(new Uint8Array(1 << 20));
    const eventfd = new Eventfd();
    const sixteen = Array.from({ length: 16 }, () => eventfd.fd);
    for (let n = 0; n < 16; n += 1) a.send(Uint8Array.of(n), sixteen);
    expect(() => a.send(Uint8Array.of(16), [eventfd.fd])).toThrow(expect.objectContaining({ code: 'VFIO_E_LIMIT' }));
    const waiting = openFds();
    b.resume();
    await atB.until(() => atB.heard.reduce((sum, { fds }) => sum + fds.length, 0) === 256);
    for (const { fds } of atB.heard.splice(0)) for (const fd of fds) calls.close(fd);
    a.send(Uint8Array.of(16), [eventfd.fd]);
    await atB.until(() => atB.heard.length === 1);
    for (const fd of atB.heard[0]?.fds ?? []) calls.close(fd);
    eventfd.close();
    a.close();
    b.close();
    // The eventfd, both sockets, their two reactors' one epoll fd and what waits.
    expect([waiting - before, openFds() - before]).toEqual([1 + 2 + 1 + 256, 0]);
  });

  it('joins small messages that wait to be sent, and sends them in order with few calls', async () => {
    const { calls: counting, sends } = counted();
    const { a, b, atB } = pair(counting);
    b.pause();
    const waiting = 20_000;
    for (let n = 0; n < waiting; n += 1) a.send(Uint8Array.of(n, n >> 8));
    const begun = sends.splice(0).reduce((sum, sent) => sum + Math.max(0, sent), 0);
    b.resume();
    const length = (): number => atB.heard.reduce((sum, { bytes }) => sum + bytes.length, 0);
    await atB.until(() => length() === waiting * 2);
    expect(atB.heard.flatMap(({ bytes }) => bytes)).toEqual(Array.from({ length: waiting }, (_, n) => [n & 0xff, n >> 8]).flat());
    expect(begun).toBeLessThan(waiting);
    expect(sends.length).toBeLessThan(20);
  });

  it('closes the duplicates that it has made where there is no room for them all', () => {
    const { binding } = calls;
    let dups = 0;
    const before = openFds();
    const { a, b } = pair(new Syscalls({ ...binding, dup: (fd) => ((dups += 1) < 3 ? binding.dup(fd) : -24) }));
    const eventfd = new Eventfd();
    b.pause();
    const chunk = new Uint8Array(1 << 20);
    a.send(chunk);
    expect(() => a.send(chunk, [eventfd.fd, eventfd.fd, eventfd.fd])).toThrow(expect.objectContaining({ errno: 'EMFILE' }));
    eventfd.close();
    a.close();
    b.close();
    expect([dups, openFds()]).toEqual([3, before]);
  });

  it('reads into memory that its user gives, and takes no fds where he wants none', async () => {
    const before = openFds();
    const { a, b, atB } = pair();
    const memory = new Uint8Array(300_000);
    let filled = 0;
    atB.memory = () => (filled < memory.length ? memory.subarray(filled) : undefined);
    atB.takesFds = () => false;
    atB.received = (bytes, fds) => {
      expect([bytes.buffer, bytes.byteOffset, fds]).toEqual([memory.buffer, filled, []]);
      filled += bytes.length;
      atB.told();
    };
    const eventfd = new Eventfd();
    a.send(new Uint8Array(200_000).fill(1), [eventfd.fd]);
    a.send(new Uint8Array(100_000).fill(2));
    await atB.until(() => filled === memory.length);
    expect([memory[0], memory[199_999], memory[200_000], memory.at(-1)]).toEqual([1, 1, 2, 2]);
    eventfd.close();
    a.close();
    b.close();
    expect(openFds()).toBe(before);
  });

  it('asks again at once for bytes that are due, once some have come, waits for them shortly, and then leaves it to the loop', async () => {
    const waits: number[] = [];
    const { binding } = calls;
    const { a, atB } = pair(new Syscalls({ ...binding, waitReady: (...args) => {
      const ready = binding.waitReady(...args);
      waits.push(ready);
      return ready;
    } }), () => 0n);
    const memory = new Uint8Array(8192);
    let filled = 0;
    atB.memory = () => (filled < memory.length ? memory.subarray(filled) : undefined);
    atB.due = () => filled < memory.length;
    atB.received = (bytes) => {
      filled += bytes.length;
      // The rest comes while it is waited for, then no more.
      if (filled === 1) a.send(new Uint8Array(4095));
      atB.told();
    };
    a.send(Uint8Array.of(1));
    await atB.until(() => filled === 4096);
    // The rest was there when it was asked for again; what was missing then had not come when the wait was over.
    expect(waits).toEqual([0]);
    a.send(new Uint8Array(4096));
    await atB.until(() => filled === 8192);
    expect(waits).toHaveLength(1);
  });

  it.each([
    ['in one turn, where it is not over before', 0n, 1],
    ['in several, where one is over before', 400_000n, 3],
  ])('brings the pieces of a large payload %s', async (_, stepNs, expected) => {
    const { binding } = calls;
    let clockNs = 0n;
    const { a, atB } = pair(new Syscalls({ ...binding, receive: (fd, address, length) => binding.receive(fd, address, Math.min(length, 1000)) }), () => (clockNs += stepNs));
    const memory = new Uint8Array(8192);
    let filled = 0;
    let turns = 0;
    let inTurn = false;
    atB.memory = () => (filled < memory.length ? memory.subarray(filled) : undefined);
    atB.takesFds = () => false;
    atB.due = () => filled < memory.length;
    atB.received = (bytes) => {
      filled += bytes.length;
      if (!inTurn) turns += 1;
      inTurn = true;
      queueMicrotask(() => (inTurn = false));
      atB.told();
    };
    const sent = Uint8Array.from({ length: memory.length }, (_byte, n) => n);
    a.send(sent);
    await atB.until(() => filled === memory.length);
    expect([turns, memory]).toEqual([expected, sent]);
  });
});
