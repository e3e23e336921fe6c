import { beforeEach, describe, expect, it } from 'vitest';
import { KernelDmaLogging } from '../../../src/devices/kernel/dma-logging.js';
import { koffiBinding } from '../../../src/devices/linux/koffi-binding.js';
import type { LaneRequest } from '../../../src/devices/linux/lane-request.js';
import { linuxSyscalls, Syscalls } from '../../../src/devices/linux/syscalls.js';
import type { Call } from '../../../src/devices/port.js';
import { encodeLoggedRanges, encodeLoggingReport, encodeLoggingStart, encodeLoggingStop } from '../../../src/devices/uapi/dma-logging.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { HandLanes, outcome } from './doubles.js';

const page = 4096;
const ranges = [{ iova: 0x1000n, size: 100 * page }];

let lanes: HandLanes;
let open: boolean;
/** Memory of this process that the kernel was given and did not get taken away yet. */
let held: Set<number>;
let logging: KernelDmaLogging;

beforeEach(() => {
  lanes = new HandLanes();
  open = true;
  held = new Set();
  const { binding } = linuxSyscalls();
  const calls = new Syscalls({
    ...koffiBinding(),
    mmap: (...args: Parameters<typeof binding.mmap>) => {
      const at = binding.mmap(...args);
      held.add(at);
      return at;
    },
    munmap: (at, size) => {
      held.delete(at);
      return binding.munmap(at, size);
    },
  });
  logging = new KernelDmaLogging({
    device: 'd0',
    fd: 7,
    calls,
    submit: (request) => lanes.lane('log').submit(request),
    requireOpen: (operation) => {
      if (!open) throw new VfioError('VFIO_E_CLOSED', 'the device is closed', { operation });
    },
  });
});

/** The struct of the call that is out, and what its pointer (its last u64) points to. */
function out(): { readonly argument: Uint8Array; readonly address: bigint; readonly memory: (bytes: number) => Uint8Array } {
  const request: LaneRequest = lanes.running('log');
  if (request.op !== 'ioctl' || typeof request.argument === 'number') throw new Error('no ioctl with a struct is out');
  const { argument } = request;
  const address = new DataView(argument.buffer, argument.byteOffset).getBigUint64(argument.length - 8, true);
  return { argument, address, memory: (bytes) => new Uint8Array(koffiBinding().view(Number(address), page), 0, bytes) };
}

function started(): void {
  const start = outcome(logging.start({ ranges, pageSize: page }));
  lanes.answer('log', 0, out().argument);
  expect(start.value).toBe(page);
}

describe('the log of written pages', () => {
  it('starts with its ranges in memory that lives until the kernel has answered', () => {
    const start = outcome(logging.start({ ranges, pageSize: page }));
    const { argument, address, memory } = out();
    expect(argument).toEqual(encodeLoggingStart(page, 1, address));
    expect(memory(16)).toEqual(encodeLoggedRanges(ranges));
    expect(held.size).toBe(1);
    // The device tracks larger pages.
    lanes.answer('log', 0, encodeLoggingStart(2 ** 21, 1, address));
    expect([start.value, held.size]).toEqual([2 ** 21, 0]);
  });

  it('is read as bits of its own, and the next one waits for its turn', () => {
    started();
    const report = outcome(logging.report({ iova: 0x1000n, size: 100 * page, pageSize: page }));
    const stop = outcome(logging.stop());
    const { argument, address, memory } = out();
    expect(argument).toEqual(encodeLoggingReport({ iova: 0x1000n, size: 100 * page }, page, address));
    memory(16).set([1, 0, 0, 0x80], 0);
    lanes.answer('log', 0, argument);
    expect(report.value).toEqual(Uint8Array.of(1, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    expect([stop.get, held.size]).toEqual(['open', 0]);
    expect(lanes.running('log')).toMatchObject({ op: 'ioctl', fd: 7, request: 0x3b75, argument: encodeLoggingStop() });
    lanes.answer('log', 0);
    expect(stop.get).toBe('done');
  });

  it('keeps its memory while the kernel has it, whoever has left', () => {
    started();
    logging.report({ iova: 0x1000n, size: page, pageSize: page }).subscribe().unsubscribe();
    expect(held.size).toBe(1);
    lanes.fail('log', errnoError('EIO', 'VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT'));
    expect(held.size).toBe(0);
  });

  it('is one at a time, until it is stopped, or was not had', () => {
    const refused = outcome(logging.start({ ranges, pageSize: page }));
    lanes.fail('log', errnoError('ENOTTY', 'VFIO_DEVICE_FEATURE_DMA_LOGGING_START', 'd0'));
    expect([refused.get, held.size]).toEqual(['VFIO_E_UNSUPPORTED', 0]);
    started();
    expect(outcome(logging.start({ ranges, pageSize: page })).get).toBe('VFIO_E_BUSY');
    // A start may follow a stop at once: it waits for it.
    logging.stop().subscribe();
    const again = outcome(logging.start({ ranges, pageSize: page }));
    lanes.answer('log', 0);
    lanes.answer('log', 0, out().argument);
    expect(again.value).toBe(page);
  });

  it.each([0n, 2n ** 63n])('does not believe pages of %d bytes', (bytes) => {
    const start = outcome(logging.start({ ranges, pageSize: page }));
    const answer = encodeLoggingStart(page, 1, 0n);
    new DataView(answer.buffer).setBigUint64(8, bytes, true);
    lanes.answer('log', 0, answer);
    expect(start.get).toBe('VFIO_E_PROTOCOL');
  });

  it('refuses before the kernel is asked', () => {
    expect(outcome(logging.start({ ranges: [], pageSize: page })).get).toBe('VFIO_E_RANGE');
    expect(outcome(logging.report({ iova: 1n, size: page, pageSize: page })).get).toBe('VFIO_E_RANGE');
    open = false;
    const calls: readonly Call<unknown>[] = [logging.start({ ranges, pageSize: page }), logging.report({ iova: 0n, size: page, pageSize: page }), logging.stop()];
    expect(calls.map((call) => outcome(call).get)).toEqual(['VFIO_E_CLOSED', 'VFIO_E_CLOSED', 'VFIO_E_CLOSED']);
    expect([lanes.out, held.size]).toEqual([{}, 0]);
  });
});
