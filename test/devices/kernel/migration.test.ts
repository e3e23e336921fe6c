import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KernelPort } from '../../../src/devices/kernel/kernel-port.js';
import { Reactor } from '../../../src/devices/linux/reactor.js';
import type { Call, ReleaseReport, StateReply } from '../../../src/devices/port.js';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_GET_INFO, VFIO_DEVICE_GET_REGION_INFO } from '../../../src/devices/uapi/constants.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { virtualClock, type VirtualClock } from '../../support/virtual-clock.js';
import { fields } from '../uapi/bytes-helpers.js';
import { regionInfo } from '../uapi/encoders.js';
import { callsWith, HandLanes, type IoctlDouble, KernelTree, openedAs } from './doubles.js';

const fileOffset = 11 * 2 ** 40;
const word = (bits: number): Uint8Array => fields(['u32', bits]);

let tree: KernelTree;
let lanes: HandLanes;
let clock: VirtualClock;
let reports: ReleaseReport[];
let port: KernelPort;
let offersV2: boolean;
let offersPrecopyInfo2: boolean;
let asked: number[];

beforeEach(() => {
  tree = new KernelTree().file('device');
  lanes = new HandLanes();
  clock = virtualClock();
  reports = [];
  offersV2 = false;
  offersPrecopyInfo2 = false;
  asked = [];
  const calls = callsWith(answer);
  port = new KernelPort(openedAs('d0', calls.open(join(tree.paths.dev, 'device')), calls), { calls, reactor: new Reactor(calls), pool: lanes, clock });
  port.released.subscribe({ next: (report) => reports.push(report), error: () => undefined });
});

afterEach(() => {
  tree.closeLeft();
  tree[Symbol.dispose]();
});

/** Twelve region indexes; the last one is the migration region of v1. */
const answer: IoctlDouble = (request, argument) => {
  if (typeof argument === 'number') return 0;
  const bytes = new Uint8Array(argument.buffer, argument.byteOffset, argument.byteLength);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (request === VFIO_DEVICE_GET_INFO) bytes.set(fields(['u32', 24], ['u32', 0], ['u32', 12], ['u32', 0]));
  if (request === VFIO_DEVICE_FEATURE) {
    const feature = view.getUint16(4, true);
    asked.push(feature);
    if (!offersV2 || (feature === 12 && !offersPrecopyInfo2)) return 'ENOTTY';
    if (feature === 1) bytes.set(fields(['u64', offersPrecopyInfo2 ? 7 : 3]), 8);
  }
  if (request === VFIO_DEVICE_GET_REGION_INFO) {
    const index = view.getUint32(8, true);
    if (index === 9) return 'EINVAL';
    const isMigration = index === 11;
    bytes.set(regionInfo({ index, flags: isMigration ? 0b1011 : 0, size: isMigration ? 0x3000 : 0, offset: index * 2 ** 40 }));
    if (isMigration) {
      view.setUint32(0, 48, true);
      view.setUint32(12, 32, true);
      bytes.set(fields(['u16', 2], ['u16', 1], ['u32', 0], ['u32', 3], ['u32', 1]), 32);
    }
  }
  return 0;
};

function outcome<T>(call: Call<T>): { get: unknown; value: T | undefined } {
  const seen: { get: unknown; value: T | undefined } = { get: 'open', value: undefined };
  call.subscribe({
    next: (value) => {
      seen.get = value;
      seen.value = value;
    },
    error: (error: unknown) => (seen.get = VfioError.is(error) ? `${error.code} ${error.errno ?? ''}`.trim() : error),
  });
  return seen;
}

/** A write of device_state up to the write itself. */
function writing(to: 'stop-copy' | 'pre-copy' | 'running' | 'resuming', from = 1): { get: unknown; value: StateReply | undefined } {
  const set = outcome(port.setState(to));
  lanes.answer(':state', 4, word(from));
  return set;
}

describe('which generation a kernel device speaks', () => {
  it('is the second where it offers that', () => {
    offersV2 = true;
    expect(outcome(port.migration()).get).toEqual({ version: 2, flags: 3 });
  });

  it('is opted in to the flags of PRECOPY_INFO, once, where it has PRE_COPY', () => {
    offersV2 = true;
    expect([outcome(port.migration()).get, asked]).toEqual([{ version: 2, flags: 3 }, [1]]);
    const other = new KernelPort(openedAs('d1', -1, callsWith(answer)), { calls: callsWith(answer), reactor: new Reactor(callsWith(answer)), pool: lanes, clock });
    offersPrecopyInfo2 = true;
    asked = [];
    expect([outcome(other.migration()).get, outcome(other.migration()).get, asked]).toEqual([{ version: 2, flags: 7 }, { version: 2, flags: 7 }, [1, 12]]);
  });

  it('is the first where it has the region, at whatever index', () => {
    expect(outcome(port.migration()).get).toEqual({ version: 1, flags: 5 });
  });
});

describe('device_state of v1', () => {
  it('is a word at the beginning of the region: read, written and read back on the state lane', () => {
    const set = outcome(port.setState('stop-copy'));
    expect(lanes.running(':state')).toMatchObject({ op: 'pread', offset: BigInt(fileOffset), length: 4 });
    lanes.answer(':state', 4, word(1));
    expect(lanes.running(':state')).toMatchObject({ op: 'pwrite', offset: BigInt(fileOffset), bytes: word(2), operation: 'device_state stop-copy' });
    expect(outcome(port.access({ region: 11, offset: 8, readBytes: 8 })).get).toBe('open');
    lanes.answer(':access', 8, new Uint8Array(8));
    lanes.answer(':state', 4);
    lanes.answer(':state', 4, word(2));
    expect(set.value).toMatchObject({ state: 'stop-copy', data: { direction: 'save' } });
  });

  it.each([
    ['EPERM', 'VFIO_E_REFUSED EPERM'], ['ETIMEDOUT', 'VFIO_E_ACK_TIMEOUT ETIMEDOUT'], ['ECANCELED', 'VFIO_E_CANCELED ECANCELED'], ['ENODEV', 'VFIO_E_NO_DEVICE ENODEV'],
  ])('that is answered %s fails as a write of v2 does: %s', (errno, code) => {
    const set = writing('stop-copy');
    lanes.fail(':state', errnoError(errno, 'device_state stop-copy', 'd0'));
    expect(set.get).toBe(code);
  });

  it('is not believed where it was written in part', () => {
    const set = writing('stop-copy');
    lanes.answer(':state', 2);
    expect(set.get).toBe('VFIO_E_PROTOCOL');
  });

  it('has no arc that is not in its table: the driver is not asked', () => {
    const set = writing('pre-copy', 2);
    expect([set.get, lanes.out]).toEqual(['VFIO_E_ARC', {}]);
  });

  it('is not written past the state lane', () => {
    expect(outcome(port.migration()).get).toMatchObject({ version: 1 });
    const write = { region: 11, offset: 0, write: word(2) };
    expect(outcome(port.access(write)).get).toBe('VFIO_E_RANGE');
    expect(() => port.accessNow(write)).toThrow('transition()');
    expect(lanes.out).toEqual({});
  });

  it('that is stuck: close says so, and the fd stays until it returns', () => {
    const set = writing('stop-copy');
    port.close();
    clock.advanceMs(10_000);
    expect(reports.map(({ what }) => what)).toEqual(['call stuck']);
    expect(tree.open()).toEqual(['device']);
    lanes.fail(':state', errnoError('ECANCELED', 'device_state stop-copy', 'd0'));
    expect(set.get).toBe('VFIO_E_CANCELED ECANCELED');
    expect(reports.map(({ what }) => what)).toEqual(['call stuck', 'stuck call returned', 'device fd closed', 'group given back']);
    expect(tree.open()).toEqual([]);
  });
});

describe('the data of v1', () => {
  function session(): NonNullable<StateReply['data']> {
    const set = writing('stop-copy');
    lanes.answer(':state', 4);
    lanes.answer(':state', 4, word(2));
    if (set.value?.data === undefined) throw new Error('no session began');
    return set.value.data;
  }

  it('moves on a lane of its own, and no more than was asked for', () => {
    const read = outcome(session().read(6));
    lanes.answer(':data:region 11', 8, fields(['u64', 100]));
    lanes.answer(':data:region 11', 8, fields(['u64', 0x1000]));
    lanes.answer(':data:region 11', 8, fields(['u64', 100]));
    expect(lanes.running(':data:region 11')).toMatchObject({ op: 'pread', offset: BigInt(fileOffset + 0x1000), length: 6 });
    lanes.answer(':data:region 11', 6, Uint8Array.of(1, 2, 3, 4, 5, 6));
    expect(read.get).toEqual({ kind: 'bytes', bytes: Uint8Array.of(1, 2, 3, 4, 5, 6) });
  });

  it('ends with its port, which waits for the step that is out', () => {
    const data = session();
    const read = outcome(data.read(6));
    port.close();
    lanes.answer(':data:region 11', 8, fields(['u64', 100]));
    expect(read.get).toBe('VFIO_E_CLOSED');
    expect(reports.map(({ what }) => what)).toEqual(['migration data closed', 'device fd closed', 'group given back']);
    expect(outcome(data.read(6)).get).toBe('VFIO_E_CLOSED');
  });

  it('is over after a reset', () => {
    const data = session();
    const reset = outcome(port.reset());
    lanes.answer(':state', 0);
    expect([reset.get, outcome(data.read(6)).get]).toEqual([undefined, 'VFIO_E_NO_DEVICE ENODEV']);
  });
});
