import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { beforeEach, describe, expect, it } from 'vitest';
import { KernelDataChannel } from '../../../src/devices/kernel/data-channel.js';
import { warningChannel, type Warning } from '../../../src/diagnostics.js';
import { linuxSyscalls } from '../../../src/devices/linux/syscalls.js';
import type { Call } from '../../../src/devices/port.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { fields } from '../uapi/bytes-helpers.js';
import { HandLanes } from './doubles.js';

let lanes: HandLanes;
let open: boolean;
let closes: number;
let final: boolean;
let precopyFlags: boolean;
let channel: KernelDataChannel;
let fd: number;

beforeEach(() => {
  lanes = new HandLanes();
  open = true;
  closes = 0;
  final = false;
  precopyFlags = false;
  fd = linuxSyscalls().eventfd();
  channel = new KernelDataChannel({
    fd,
    direction: 'save',
    calls: linuxSyscalls(),
    device: 'd0',
    submit: (request) => lanes.lane('data').submit(request),
    requireOpen: (operation) => {
      if (!open) throw new VfioError('VFIO_E_CLOSED', 'the device is closed', { operation });
    },
    final: () => final,
    get precopyFlags() { return precopyFlags; },
    closed: () => (closes += 1),
  });
  return () => channel.release();
});

/** What became of a call so far: its value, its error's code, or `open`. */
function outcome(call: Call<unknown>): { get: unknown } {
  const seen: { get: unknown } = { get: 'open' };
  call.subscribe({
    next: (value) => (seen.get = value ?? 'done'),
    error: (error: unknown) => (seen.get = VfioError.is(error) ? error.code : error),
  });
  return seen;
}

describe('a data_fd', () => {
  it.each([0, -1, 1.5, NaN, 2 ** 30])('refuses to read %d bytes, and can be read afterwards', (bytes) => {
    expect(outcome(channel.read(bytes)).get).toBe('VFIO_E_RANGE');
    const read = outcome(channel.read(8));
    lanes.answer('data', 2, Uint8Array.of(1, 2));
    expect(read.get).toEqual({ kind: 'bytes', bytes: Uint8Array.of(1, 2) });
  });

  it('does not show the driver an empty write', () => {
    expect(outcome(channel.write(new Uint8Array(0))).get).toBe('done');
    expect(lanes.out).toEqual({});
  });

  it('makes one call at a time, and the next one in the answer of the first', () => {
    const seen: unknown[] = [];
    channel.read(8).subscribe({ next: () => seen.push(outcome(channel.read(4)).get), error: (error: unknown) => seen.push(error) });
    expect(outcome(channel.read(8)).get).toBe('VFIO_E_BUSY');
    expect(outcome(channel.write(Uint8Array.of(1))).get).toBe('VFIO_E_BUSY');
    lanes.answer('data', 1, Uint8Array.of(1));
    expect(seen).toEqual(['open']);
    expect(lanes.running('data')).toMatchObject({ op: 'read', length: 4 });
    lanes.fail('data', errnoError('ENOMSG', 'read data_fd', 'd0'));
  });

  it('lends its lane the memory that the reader brings', () => {
    const into = new Uint8Array(8);
    outcome(channel.read(8, into));
    expect(lanes.running('data')).toMatchObject({ op: 'read', into });
    lanes.answer('data', 0);
  });

  it('takes 0 bytes for the end only where the read began in STOP_COPY', () => {
    const before = outcome(channel.read(8));
    final = true;
    lanes.answer('data', 0);
    expect(before.get).toEqual({ kind: 'quiet' });
    const after = outcome(channel.read(8));
    lanes.answer('data', 0);
    expect(after.get).toEqual({ kind: 'end' });
  });

  it('warns once of a driver that answers 0 where it is quiet', () => {
    const warned: string[] = [];
    const hear = (warning: unknown): void => { warned.push((warning as Warning).what); };
    subscribe(warningChannel.name, hear);
    try {
      for (let times = 0; times < 3; times += 1) {
        outcome(channel.read(8));
        lanes.answer('data', 0);
      }
      outcome(channel.read(8));
      lanes.fail('data', errnoError('ENOMSG', 'read data_fd', 'd0'));
      final = true;
      outcome(channel.read(8));
      lanes.answer('data', 0);
    } finally {
      unsubscribe(warningChannel.name, hear);
    }
    expect(warned).toEqual([expect.stringContaining('answered 0')]);
  });

  it('writes all, however little the driver takes', () => {
    const write = outcome(channel.write(Uint8Array.of(1, 2, 3)));
    lanes.answer('data', 1);
    expect(lanes.running('data')).toMatchObject({ op: 'write', bytes: Uint8Array.of(2, 3) });
    lanes.answer('data', 2);
    expect(write.get).toBe('done');
  });

  it('is asked what there is to read, on its own lane, and flags only count where the user opted in', () => {
    const asked = [0, 1].map((told) => {
      precopyFlags = told === 1;
      const info = outcome(channel.precopy());
      expect(lanes.running('data')).toMatchObject({ op: 'ioctl', fd, request: 0x3b79, operation: 'VFIO_MIG_GET_PRECOPY_INFO' });
      expect(outcome(channel.read(8)).get).toBe('VFIO_E_BUSY');
      lanes.answer('data', 0, fields(['u32', 24], ['u32', 1], ['u64', 5], ['u64', 7]));
      return info.get;
    });
    expect(asked).toEqual([false, true].map((reinit) => ({ initialBytes: 5n, dirtyBytes: 7n, reinit })));
  });

  it.each([['EINVAL', 'VFIO_E_RANGE'], ['ENOTTY', 'VFIO_E_UNSUPPORTED'], ['ENODEV', 'VFIO_E_NO_DEVICE']])('that answers such a question %s fails with %s, and goes on', (errno, code) => {
    const info = outcome(channel.precopy());
    lanes.fail('data', errnoError(errno, 'VFIO_MIG_GET_PRECOPY_INFO', 'd0'));
    expect(info.get).toBe(code);
    const read = outcome(channel.read(8));
    lanes.answer('data', 0);
    expect(read.get).toEqual({ kind: 'quiet' });
  });

  it('is idle after an error', () => {
    const read = outcome(channel.read(8));
    lanes.fail('data', errnoError('EIO', 'read data_fd', 'd0'));
    expect(read.get).toBe('VFIO_E_IO');
    const zero = outcome(channel.write(Uint8Array.of(1)));
    lanes.answer('data', 0);
    expect(zero.get).toBe('VFIO_E_PROTOCOL');
    const quiet = outcome(channel.read(8));
    lanes.fail('data', errnoError('ENOMSG', 'read data_fd', 'd0'));
    expect(quiet.get).toEqual({ kind: 'quiet' });
  });

  it('is not closed under a call, and ends a write at what the driver has taken', () => {
    const write = outcome(channel.write(Uint8Array.of(1, 2, 3)));
    expect(outcome(channel.close()).get).toBe('done');
    expect(closes).toBe(0);
    expect(outcome(channel.read(1)).get).toBe('VFIO_E_CLOSED');
    lanes.answer('data', 1);
    expect([write.get, lanes.out, closes]).toEqual(['VFIO_E_CLOSED', {}, 1]);
    expect(outcome(channel.close()).get).toBe('done');
    expect(closes).toBe(1);
  });

  it('takes no call once its device is closed', () => {
    const write = outcome(channel.write(Uint8Array.of(1, 2, 3)));
    open = false;
    lanes.answer('data', 1);
    expect([write.get, lanes.out]).toEqual(['VFIO_E_CLOSED', {}]);
    expect(outcome(channel.read(0)).get).toBe('VFIO_E_CLOSED');
    expect(outcome(channel.write(new Uint8Array(0))).get).toBe('VFIO_E_CLOSED');
  });

  it('a detached call runs to its end', () => {
    channel.read(8).subscribe().unsubscribe();
    expect(outcome(channel.read(8)).get).toBe('VFIO_E_BUSY');
    lanes.answer('data', 1, Uint8Array.of(1));
    expect(outcome(channel.read(8)).get).toBe('open');
    lanes.answer('data', 0);
  });
});
