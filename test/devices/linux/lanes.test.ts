import { spawnSync } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { firstValueFrom, lastValueFrom } from 'rxjs';
import { VfioError } from '../../../src/errors.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import type { LaneRequest, LaneResult } from '../../../src/devices/linux/lane-request.js';
import { LanePool, type LaneLimits } from '../../../src/devices/linux/lanes.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import { childFile, countFds } from './process-state.js';

/** For a thread to end on a busy machine; it only guards against one that never does. */
const patience = { timeout: 30_000 };

/** A call that blocks until it is let go: read() of an eventfd that is not non-blocking. */
class Blocking {
  readonly fd = koffiBinding().eventfd(0, 0o2000000);
  readonly request: LaneRequest = { op: 'read', fd: this.fd, length: 8, operation: 'device_state', device: 'd0' };
  release(count = 1n): void {
    koffiBinding().writeCount(this.fd, count);
  }
  close(): void {
    koffiBinding().close(this.fd);
  }
}

let pools: LanePool[];
let blocking: Blocking[];
let fdsBefore: readonly number[];
const fds = (): readonly number[] => [countFds('eventfd'), countFds('eventpoll')];

beforeEach(() => {
  fdsBefore = fds();
  pools = [];
  blocking = [];
});

afterEach(async () => {
  for (const one of blocking) one.release();
  for (const pool of pools) {
    const ended = lastValueFrom(pool.ended, { defaultValue: undefined });
    pool.close();
    await ended;
    expect(pool.counters).toMatchObject({ running: 0, idle: 0, queued: 0 });
  }
  for (const one of blocking) one.close();
  // A worker has an epoll fd and eventfds of its own; they go with it.
  await vi.waitFor(() => {
    expect(fds()).toEqual(fdsBefore);
  }, patience);
});

function pool(limits?: LaneLimits, url?: URL): LanePool {
  const made = new LanePool(limits, url === undefined ? {} : { workerUrl: url });
  pools.push(made);
  return made;
}

function blocker(): Blocking {
  const made = new Blocking();
  blocking.push(made);
  return made;
}

const zeros: LaneRequest = { op: 'read', fd: 0, length: 4 };
const run = (made: LanePool, lane: string, request: LaneRequest): Promise<LaneResult> => firstValueFrom(made.lane(lane).submit(request));

describe('calls', () => {
  test('read, write, pread and pwrite carry bytes, at 64-bit offsets', async () => {
    const made = pool();
    const calls = linuxSyscalls();
    const fd = calls.open('/proc/self/mem', 2);
    const target = new Uint8Array(4096).fill(3);
    const offset = BigInt(calls.binding.addressOf(target));
    const read = await run(made, 'data', { op: 'pread', fd, length: 6, offset });
    expect(read).toMatchObject({ value: 6, errno: undefined });
    expect([...read.bytes]).toEqual([3, 3, 3, 3, 3, 3]);
    expect((await run(made, 'data', { op: 'pwrite', fd, bytes: new Uint8Array([8, 9]), offset: offset + 1n })).value).toBe(2);
    expect([...target.subarray(0, 4)]).toEqual([3, 8, 9, 3]);
    calls.close(fd);
    const one = blocker();
    expect((await run(made, 'data', { op: 'write', fd: one.fd, bytes: new Uint8Array([5, 0, 0, 0, 0, 0, 0, 0]) })).value).toBe(8);
    const into = new Uint8Array(9);
    const { bytes } = await run(made, 'data', { ...one.request, op: 'read', length: 8, into });
    expect([bytes.buffer, ...bytes]).toEqual([into.buffer, 5, 0, 0, 0, 0, 0, 0, 0]);
    one.release(6n);
    const elsewhere = await run(made, 'data', { ...one.request, op: 'read', length: 8, into: into.subarray(0, 7) });
    expect([...elsewhere.bytes, ...into]).toEqual([6, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(made.counters).toMatchObject({ started: 1, peak: 1 });
  });

  test('an ioctl brings its struct back, and an integer goes as one', async () => {
    const FIONREAD = 0x541b;
    const FIONBIO = 0x5421;
    const FIOCLEX = 0x5451;
    const made = pool();
    const one = blocker();
    const bytes = new Uint8Array([1, 0, 0, 0]);
    expect(await run(made, 'a', { op: 'ioctl', fd: one.fd, request: FIONBIO, argument: bytes })).toMatchObject({ value: 0, bytes });
    expect(await run(made, 'a', { op: 'ioctl', fd: one.fd, request: FIOCLEX, argument: 0 })).toMatchObject({ value: 0, bytes: new Uint8Array(0) });
    const calls = linuxSyscalls();
    const file = calls.open('/etc/passwd', 0);
    const answer = await run(made, 'a', { op: 'ioctl', fd: file, request: FIONREAD, argument: new Uint8Array(4) });
    expect(new DataView(answer.bytes.buffer).getInt32(0, true)).toBe((await readFile('/etc/passwd')).byteLength);
    calls.close(file);
  });

  test('the times of thread and loop, and a loop that was held in between', async () => {
    const made = pool();
    const one = blocker();
    const before = process.hrtime.bigint();
    const result = run(made, 'state', one.request);
    one.release(4n);
    const { startedNs, returnedNs, seenNs } = await result;
    expect(startedNs).toBeGreaterThan(before);
    expect(returnedNs).toBeGreaterThanOrEqual(startedNs);
    expect(seenNs).toBeGreaterThan(returnedNs);

    const held = run(made, 'state', one.request);
    one.release();
    // On a busy machine the thread has its turn late: the 30 ms begin when its read has returned.
    while (!/^eventfd-count:\s+0$/m.test(readFileSync(`/proc/self/fdinfo/${one.fd}`, 'utf8')));
    const until = process.hrtime.bigint() + 30_000_000n;
    while (process.hrtime.bigint() < until);
    const late = await held;
    expect(late.seenNs - late.returnedNs).toBeGreaterThan(10_000_000n);
  });

  test('a failed call is a typed error, with its result as the cause', async () => {
    const made = pool();
    const error: unknown = await run(made, 'state', { op: 'ioctl', fd: 1_000_000, request: 0x3b75, argument: new Uint8Array([1, 2, 3, 4]), operation: 'VFIO_DEVICE_FEATURE', device: 'd0' }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'VFIO_E_IO', errno: 'EBADF', operation: 'VFIO_DEVICE_FEATURE', device: 'd0', cause: { value: -1, errno: 'EBADF', bytes: new Uint8Array([1, 2, 3, 4]) } });
  });

  test('bytes are taken when submitted', async () => {
    const made = pool();
    const one = blocker();
    const first = run(made, 'a', one.request);
    const bytes = new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]);
    const target = blocker();
    const second = run(made, 'a', { op: 'write', fd: target.fd, bytes });
    bytes.fill(0xee);
    one.release();
    await first;
    await second;
    expect(koffiBinding().readCount(target.fd)).toBe(1n);
  });

  test('more than 64 MiB at once is refused', async () => {
    await expect(run(pool(), 'a', { ...zeros, op: 'read', length: 2 ** 40 })).rejects.toMatchObject({ code: 'VFIO_E_RANGE' });
  });
});

describe('lanes', () => {
  test('a blocked call delays neither another lane, nor fs, nor dns', async () => {
    const made = pool();
    const stuck = Array.from({ length: 6 }, () => blocker());
    const results = stuck.map((one, index) => run(made, `state:${String(index)}`, one.request));
    const free = blocker();
    free.release(9n);
    expect((await run(made, 'data', free.request)).bytes[0]).toBe(9);
    // Six blocked calls would fill libuv's four threads.
    expect((await readFile('/proc/self/stat')).byteLength).toBeGreaterThan(0);
    expect((await lookup('localhost')).address).toBeTruthy();
    expect(made.counters).toMatchObject({ running: 6, idle: 1, started: 7 });
    for (const one of stuck) one.release();
    await Promise.all(results);
    expect(made.counters).toMatchObject({ running: 0, idle: 7, peak: 7 });
  });

  test('one lane is served in order, by one thread', async () => {
    const made = pool();
    const one = blocker();
    const order: number[] = [];
    const results = Array.from({ length: 5 }, (_, index) =>
      run(made, 'state', one.request).then(({ bytes }) => {
        order.push(index, bytes[0] ?? -1);
      }),
    );
    expect(made.counters).toMatchObject({ running: 1, queued: 4 });
    for (let index = 0; index < 5; index++) {
      one.release(BigInt(index + 1));
      await results[index];
    }
    expect(order).toEqual([0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
    expect(made.counters).toMatchObject({ started: 1, queued: 0 });
  });

  test('each subscription is a call; none is made before', async () => {
    const made = pool();
    const one = blocker();
    const call$ = made.lane('a').submit(one.request);
    expect(made.counters.started).toBe(0);
    one.release(1n);
    expect((await firstValueFrom(call$)).bytes[0]).toBe(1);
    one.release(2n);
    expect((await firstValueFrom(call$)).bytes[0]).toBe(2);
  });

  test('unsubscribing drops a waiting call; a running one keeps its lane', async () => {
    const made = pool();
    const one = blocker();
    made.lane('state').submit(one.request).subscribe().unsubscribe();
    const waiting = made.lane('state').submit(one.request).subscribe();
    const last = run(made, 'state', one.request);
    expect(made.counters).toMatchObject({ running: 1, queued: 2 });
    waiting.unsubscribe();
    expect(made.counters.queued).toBe(1);
    one.release(7n);
    await vi.waitFor(() => expect(made.counters.queued).toBe(0), patience);
    one.release(8n);
    expect((await last).bytes[0]).toBe(8);
  });

  test('the waiting calls of one lane can be withdrawn; its running one and other lanes go on', async () => {
    const made = pool();
    const [one, other] = [blocker(), blocker()];
    const running = run(made, 'state', one.request);
    const waiting = [run(made, 'state', one.request), run(made, 'state', one.request)];
    const elsewhere = [run(made, 'data', other.request), run(made, 'data', other.request)];
    made.lane('state').withdraw();
    made.lane('nobody').withdraw();
    for (const call of waiting) await expect(call).rejects.toMatchObject({ code: 'VFIO_E_CLOSED', operation: 'device_state', device: 'd0' });
    expect(made.counters).toMatchObject({ running: 2, queued: 1 });
    one.release(5n);
    expect((await running).bytes[0]).toBe(5);
    for (const call of elsewhere) {
      other.release();
      await call;
    }
  });

  test('idle threads end', async () => {
    const made = pool({ idleMs: 0 });
    const one = blocker();
    one.release();
    await run(made, 'a', one.request);
    await vi.waitFor(() => {
      expect(made.counters).toMatchObject({ running: 0, idle: 0 });
      expect(fds()[0]).toBe((fdsBefore[0] ?? 0) + 1);
    }, patience);
    one.release();
    await run(made, 'a', one.request);
    expect(made.counters.started).toBe(2);
  });
});

describe('limits and failures', () => {
  test('threads and queues are bounded, and what was refused is counted', async () => {
    const made = pool({ maxThreads: 2, maxQueued: 1 });
    const stuck = [blocker(), blocker()];
    const results = stuck.map((one, index) => run(made, `state:${String(index)}`, one.request));
    await expect(run(made, 'third', zeros)).rejects.toMatchObject({ code: 'VFIO_E_LIMIT' });
    const queued = run(made, 'state:0', { ...zeros, fd: stuck[0]?.fd ?? -1, length: 8 });
    await expect(run(made, 'state:0', zeros)).rejects.toMatchObject({ code: 'VFIO_E_LIMIT' });
    expect(made.counters).toMatchObject({ running: 2, queued: 1, refused: 2, peak: 2 });
    stuck[0]?.release();
    await results[0];
    stuck[0]?.release();
    await queued;
    stuck[1]?.release();
    await results[1];
  });

  test('patient lanes take turns beyond their share of the threads, and any other finds one meanwhile', async () => {
    const made = pool({ maxThreads: 3, maxBlockedThreads: 2 });
    const devices = [blocker(), blocker(), blocker(), blocker(), blocker()];
    const returned: number[] = [];
    const blocked = (n: number): Promise<unknown> => {
      const lane = made.lane(`state:${n}`, { patient: true });
      return firstValueFrom(lane.submit(devices[n]?.request ?? zeros)).then(() => returned.push(n), () => returned.push(-n));
    };
    const results = devices.map((_, n) => blocked(n));
    expect(made.counters).toMatchObject({ running: 2, queued: 3, refused: 0 });
    expect(await run(made, 'dma', { op: 'write', fd: devices[4]?.fd ?? -1, bytes: new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]) })).toMatchObject({ value: 8 });
    // One that waits is withdrawn: it has no turn.
    made.lane('state:3').withdraw();
    await results[3];
    devices[1]?.release();
    devices[2]?.release();
    await results[2];
    devices[0]?.release();
    await Promise.all(results);
    expect(returned.slice(0, 3)).toEqual([-3, 1, 2]);
    expect(returned.slice(3).sort()).toEqual([0, 4]);
    expect(made.counters).toMatchObject({ running: 0, queued: 0, refused: 0, peak: 3 });
    // Nothing is left over: it all goes once more.
    for (const one of devices) one.release();
    await Promise.all(devices.map((_, n) => blocked(n)));
    expect(returned).toHaveLength(10);
  });

  test('a pool that is closed withdraws what waits for its turn', async () => {
    const made = pool({ maxBlockedThreads: 1 });
    const one = blocker();
    const running = firstValueFrom(made.lane('state:0', { patient: true }).submit(one.request));
    const waiting = expect(firstValueFrom(made.lane('state:1', { patient: true }).submit(one.request))).rejects.toMatchObject({ code: 'VFIO_E_CLOSED' });
    made.close();
    await waiting;
    one.release();
    expect((await running).value).toBe(8);
  });

  test.each([
    ['a file that is not there', new URL('./children/none.mjs', import.meta.url)],
    ['a thread that fails at its start', new URL('./children/broken-worker.mjs', import.meta.url)],
    ['a thread that ends without an error', new URL('./children/ending-worker.mjs', import.meta.url)],
  ])('%s: a typed error for the running call and those behind it', async (_, url) => {
    const made = pool({}, url);
    const outcomes = await Promise.allSettled([run(made, 'a', zeros), run(made, 'a', zeros), run(made, 'b', zeros)]);
    for (const outcome of outcomes) {
      expect(outcome.status).toBe('rejected');
      const reason: unknown = outcome.status === 'rejected' ? outcome.reason : undefined;
      expect(VfioError.is(reason)).toBe(true);
      expect(reason).toMatchObject({ code: 'VFIO_E_UNAVAILABLE', operation: 'read' });
    }
    expect(made.counters).toMatchObject({ running: 0, idle: 0, queued: 0, started: 3 });
  });

  test.each([
    ['read', 2 ** 20],
    ['read', -5000],
    ['write', 9],
    ['pwrite', 2 ** 40],
  ] as const)('a %s that claims to have moved %i bytes: VFIO_E_PROTOCOL, and the lane goes on with the same thread', async (op, claim) => {
    const made = pool({}, new URL('./children/lying-worker.mjs', import.meta.url));
    const lie: LaneRequest = op === 'read' ? { op, fd: claim, length: 8 } : op === 'write' ? { op, fd: claim, bytes: new Uint8Array(8) } : { op, fd: 0, bytes: new Uint8Array(8), offset: BigInt(claim) };
    const answers = [run(made, 'a', lie), run(made, 'a', { op: 'read', fd: 8, length: 8 })] as const;
    await expect(answers[0]).rejects.toMatchObject({ code: 'VFIO_E_PROTOCOL', operation: op, cause: { value: claim } });
    expect(await answers[1]).toMatchObject({ value: 8, bytes: new Uint8Array(8) });
    expect(made.counters).toMatchObject({ started: 1, running: 0, idle: 1 });
  });

  test('after close: new and waiting calls are refused, the running one returns', async () => {
    const made = pool();
    const one = blocker();
    const running = run(made, 'a', one.request);
    const waiting = run(made, 'a', one.request);
    const refused = expect(waiting).rejects.toMatchObject({ code: 'VFIO_E_CLOSED' });
    made.close();
    made.close();
    await refused;
    await expect(run(made, 'a', zeros)).rejects.toMatchObject({ code: 'VFIO_E_CLOSED' });
    one.release(3n);
    expect((await running).bytes[0]).toBe(3);
  });
});

describe('a process', () => {
  test.each([
    ['stays for a call that is out, and leaves idle threads behind', 'lanes-exit.ts', 'returned 5\nleft\n', 0],
    ['can always leave by exitNow, with a thread stuck', 'lanes-exit-now.ts', 'stuck\n', 3],
  ])('%s', (_, file, output, status) => {
    const child = spawnSync(process.execPath, ['--import', 'tsx', childFile(file)], { encoding: 'utf8', timeout: 30_000 });
    expect(child.signal).toBeNull();
    expect(child.stderr).toBe('');
    expect(child.stdout).toBe(output);
    expect(child.status).toBe(status);
  });
});
