import { concat, concatMap, NEVER, of, Subject } from 'rxjs';
import { beforeEach, describe, expect, it } from 'vitest';
import { V1DataChannel } from '../../../src/devices/migration/v1-data-channel.js';
import type { Call } from '../../../src/devices/port.js';
import { errnoError, VfioError } from '../../../src/errors.js';
import { codeOf, now } from '../../support/devices.js';
import { dataOffset, RegionDouble, regionSize } from './region-double.js';

let double: RegionDouble;
let final: boolean;

beforeEach(() => {
  double = new RegionDouble();
  final = false;
});

function channel(direction: 'save' | 'resume'): V1DataChannel {
  return new V1DataChannel({ ...double.parts, direction, final: () => final });
}

const failure = (call: Call<unknown>): string => codeOf(() => now(call));
const bytesFrom = (first: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, n) => (first + n) & 0xff);

/** What became of a call so far: its values, or its error's code. */
function outcomes(call: Call<unknown>): readonly unknown[] {
  const seen: unknown[] = [];
  call.subscribe({ next: (value) => seen.push(value), error: (error: unknown) => seen.push(VfioError.is(error) ? error.code : error) });
  return seen;
}

/** The driver stages so many bytes at an offset; their values count up from 1. */
function stage(size: number, offset = dataOffset): void {
  double.pending = BigInt(size);
  double.offset = BigInt(offset);
  double.size = BigInt(size);
  double.memory.set(bytesFrom(1, size), offset);
}

describe('saving through the data section', () => {
  it('asks what is pending, has it staged, copies it, and says so by asking again', () => {
    const save = channel('save');
    stage(5);
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 5) });
    expect(double.log).toEqual(['r pending_bytes', 'r data_offset', 'r data_size', 'r data 0x1000+5']);
    double.pending = 0n;
    double.log.length = 0;
    expect(now(save.read(64))).toEqual({ kind: 'quiet' });
    final = true;
    expect(now(save.read(64))).toEqual({ kind: 'end' });
    expect(double.log).toEqual(['r pending_bytes', 'r pending_bytes']);
  });

  it('hands a long chunk out in pieces, and tells the driver after the last one', () => {
    const save = channel('save');
    stage(10);
    const read = () => now(save.read(4));
    expect([read(), read(), read()]).toEqual([1, 5, 9].map((first) => ({ kind: 'bytes', bytes: bytesFrom(first, Math.min(4, 11 - first)) })));
    expect(double.log.filter((line) => line === 'r pending_bytes')).toHaveLength(1);
    read();
    expect(double.log.filter((line) => line === 'r pending_bytes')).toHaveLength(2);
  });

  it('copies from memory where the chunk lies in an area that can be mapped, and gives that back at the end', () => {
    const save = channel('save');
    stage(16, 0x1800);
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 16) });
    stage(8, 0x1900);
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 8) });
    expect(double.log.some((line) => line.includes('data 0x'))).toBe(false);
    // Half in, half out: trapped.
    stage(16, 0x17f8);
    now(save.read(64));
    expect(double.log.at(-1)).toBe('r data 0x17f8+16');
    expect(double.maps).toBe(1);
    save.end();
    expect(double.maps).toBe(0);
  });

  it('is trapped where mapping failed, and does not try again', () => {
    let tries = 0;
    const save = new V1DataChannel({ ...double.parts, mapArea: () => void (tries += 1), direction: 'save', final: () => final });
    stage(4, 0x1800);
    expect([now(save.read(64)), now(save.read(64))]).toEqual([{ kind: 'bytes', bytes: bytesFrom(1, 4) }, { kind: 'bytes', bytes: bytesFrom(1, 4) }]);
    expect(tries).toBe(1);
  });

  it.each(['r pending_bytes', 'r data_offset', 'r data_size', 'r data 0x1000+5'])('makes the step "%s" again after it failed: no chunk is passed over', (what) => {
    const save = channel('save');
    stage(5);
    double.fail = { what, error: errnoError('EIO', 'read migration data', 'd0') };
    expect(failure(save.read(64))).toBe('VFIO_E_IO');
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 5) });
    const askedPending = double.log.filter((line) => line === 'r pending_bytes').length;
    expect(askedPending).toBe(what === 'r pending_bytes' ? 2 : 1);
  });

  it('does not take "no more for now" for the end where the state changed meanwhile', () => {
    const answer = new Subject<Uint8Array>();
    const save = new V1DataChannel({ ...double.parts, access: () => answer, direction: 'save', final: () => final });
    const seen = outcomes(save.read(64));
    final = true;
    answer.next(new Uint8Array(8));
    answer.complete();
    expect(seen).toEqual([{ kind: 'quiet' }]);
  });

  it('waits where the driver has something pending but nothing to give yet, but not for ever: in STOP_COPY that is a lie', () => {
    const save = channel('save');
    double.pending = 7n;
    expect(now(save.read(64))).toEqual({ kind: 'quiet' });
    final = true;
    expect(failure(save.read(64))).toBe('VFIO_E_PROTOCOL');
  });

  it.each([
    ['an offset of 0', 0n, 4n],
    ['an offset in the struct', 24n, 4n],
    ['an offset beyond the region', BigInt(regionSize), 1n],
    ['a size beyond the region', BigInt(dataOffset), BigInt(regionSize - dataOffset + 1)],
    ['everything there is', BigInt(dataOffset), 2n ** 64n - 1n],
    ['a place that wraps', 2n ** 64n - 4n, 8n],
  ])('does not believe %s, and moves nothing', (_, offset, size) => {
    const save = channel('save');
    stage(4);
    double.offset = offset;
    double.size = size;
    expect(failure(save.read(64))).toBe('VFIO_E_PROTOCOL');
    expect(double.log).toEqual(['r pending_bytes', 'r data_offset', 'r data_size']);
    // The driver may come to its senses.
    stage(4);
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 4) });
  });

  it.each([0, -1, 1.5, NaN, 2 ** 30])('refuses to read %d bytes', (bytes) => {
    expect(failure(channel('save').read(bytes))).toBe('VFIO_E_RANGE');
    expect(double.log).toEqual([]);
  });
});

describe('what there is to read', () => {
  const dirty = (save: V1DataChannel): bigint => now(save.precopy()).dirtyBytes;

  it('is what pending_bytes says, and never asked twice for one chunk: that would give the chunk up', () => {
    const save = channel('save');
    stage(10);
    expect(now(save.precopy())).toEqual({ initialBytes: 0n, dirtyBytes: 10n, reinit: false });
    expect(dirty(save)).toBe(10n);
    now(save.read(4));
    expect(dirty(save)).toBe(6n);
    expect(double.log.filter((line) => line === 'r pending_bytes')).toHaveLength(1);
    now(save.read(64));
    stage(3);
    expect(dirty(save)).toBe(3n);
    expect(now(save.read(64))).toEqual({ kind: 'bytes', bytes: bytesFrom(1, 3) });
    expect(double.log.filter((line) => line === 'r pending_bytes')).toHaveLength(2);
  });

  it('is no less than nothing where the driver stages more than it announced', () => {
    const save = channel('save');
    stage(10);
    double.pending = 3n;
    now(save.read(4));
    expect(dirty(save)).toBe(0n);
  });

  it('is not told in STOP_COPY, nor while resuming, nor after the end', () => {
    const save = channel('save');
    final = true;
    expect([failure(save.precopy()), failure(channel('resume').precopy())]).toEqual(['VFIO_E_RANGE', 'VFIO_E_RANGE']);
    save.end();
    expect(failure(save.precopy())).toBe('VFIO_E_NO_DEVICE');
    expect(double.log).toEqual([]);
  });
});

describe('resuming through the data section', () => {
  it('asks where, writes there, and hands over by the size', () => {
    now(channel('resume').write(bytesFrom(1, 5)));
    expect(double.log).toEqual(['r data_offset', 'w data 0x1000+5', 'w data_size 5']);
    expect(double.memory.slice(dataOffset, dataOffset + 5)).toEqual(bytesFrom(1, 5));
  });

  it('makes as many chunks as the data section needs, in order', () => {
    const got: number[] = [];
    double.written = (_, size) => got.push(...double.memory.slice(dataOffset, dataOffset + Number(size)));
    const sent = bytesFrom(0, 10_000);
    now(channel('resume').write(sent));
    expect(Uint8Array.from(got)).toEqual(sent);
    expect(double.log.filter((line) => line.startsWith('w data_size'))).toEqual(['w data_size 4096', 'w data_size 4096', 'w data_size 1808']);
  });

  it('writes to memory where the driver wants it in an area that can be mapped', () => {
    double.offset = 0x1800n;
    now(channel('resume').write(bytesFrom(1, 5)));
    expect(double.log).toEqual(['r data_offset', 'w data_size 5']);
    expect(double.memory.slice(0x1800, 0x1805)).toEqual(bytesFrom(1, 5));
  });

  it('does not believe an offset outside the data section', () => {
    for (const offset of [0n, 31n, BigInt(regionSize), 2n ** 64n - 1n]) {
      double.offset = offset;
      expect(failure(channel('resume').write(bytesFrom(1, 5))), `${offset}`).toBe('VFIO_E_PROTOCOL');
    }
    expect(double.log.every((line) => line === 'r data_offset')).toBe(true);
  });

  it('shows the driver no empty write', () => {
    now(channel('resume').write(new Uint8Array(0)));
    expect(double.log).toEqual([]);
  });
});

describe('a session', () => {
  it('goes one way', () => {
    expect(failure(channel('save').write(Uint8Array.of(1)))).toBe('VFIO_E_RANGE');
    expect(failure(channel('resume').read(1))).toBe('VFIO_E_RANGE');
  });

  it('makes one call at a time, and the next one in the answer of the first', () => {
    const answers: Subject<Uint8Array>[] = [];
    const access = () => answers[answers.push(new Subject<Uint8Array>()) - 1] ?? NEVER;
    const save = new V1DataChannel({ ...double.parts, access, direction: 'save', final: () => final });
    const seen = outcomes(save.read(64).pipe(concatMap((chunk) => concat(of(chunk), save.read(64)))));
    expect(failure(save.read(64))).toBe('VFIO_E_BUSY');
    answers[0]?.next(new Uint8Array(8));
    answers[0]?.complete();
    expect(seen).toEqual([{ kind: 'quiet' }]);
    expect(failure(save.read(64))).toBe('VFIO_E_BUSY');
  });

  it('stops at its next step once the session, the channel or the port has ended', () => {
    const ends: readonly (readonly [string, (save: V1DataChannel) => void])[] = [
      ['VFIO_E_NO_DEVICE', (save) => save.end()],
      ['VFIO_E_CLOSED', (save) => now(save.close())],
      ['VFIO_E_CLOSED', () => (double.open = false)],
    ];
    for (const [code, end] of ends) {
      double = new RegionDouble();
      stage(5);
      const answer = new Subject<Uint8Array>();
      const save = new V1DataChannel({ ...double.parts, access: () => answer, direction: 'save', final: () => final });
      const seen = outcomes(save.read(64));
      end(save);
      answer.next(Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0));
      expect(seen).toEqual([code]);
      expect(failure(save.read(64))).toBe(code);
    }
  });
});
