import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DataChannel, PrecopyInfo } from '../../../src/devices/port.js';
import { RegionMemory } from '../../../src/devices/software/region-memory.js';
import { ResumeSession, SaveSession } from '../../../src/devices/software/state-stream.js';
import { opened, watch, type Opened } from './opened.js';

function soon<T>({ clock }: Opened, call: Parameters<typeof watch<T>>[0]): T {
  const seen = watch(call);
  clock.advanceMs(1);
  if (seen.error !== undefined) throw seen.error;
  return seen.values[0] as T;
}

describe('the script of PRE_COPY', () => {
  const saving = (initialBytes = 0): { readonly all: Opened; readonly data: DataChannel; readonly info: () => PrecopyInfo; readonly read: (bytes: number) => number | string } => {
    const all = opened({ remap: false, mailbox: false });
    all.device.driver.preCopy.initialBytes = initialBytes;
    const { data } = soon(all, all.port.setState('pre-copy'));
    if (data === undefined) throw new Error('no session began');
    const read = (bytes: number) => {
      const chunk = soon(all, data.read(bytes));
      return chunk.kind === 'bytes' ? chunk.bytes.length : chunk.kind;
    };
    return { all, data, info: () => soon(all, data.precopy()), read };
  };

  it('says what is initial and what is dirty, less what was read', () => {
    const { all, info, read } = saving(100);
    expect(info()).toEqual({ initialBytes: 116n, dirtyBytes: 0n, reinit: false });
    all.device.driver.preCopy.dirty(40);
    expect([read(10), read(10), read(1000), read(1000)]).toEqual([10, 6, 16, 84]);
    expect(info()).toEqual({ initialBytes: 0n, dirtyBytes: 40n, reinit: false });
    expect([read(1000), read(20), read(1000), read(1000)]).toEqual([16, 20, 4, 'quiet']);
  });

  it('begins anew with REINIT, which is told once, and takes what is unread along', () => {
    const { all, info } = saving();
    all.device.driver.preCopy.dirty(40);
    all.device.driver.preCopy.reinit(64);
    expect(info()).toEqual({ initialBytes: 120n, dirtyBytes: 0n, reinit: true });
    expect(info().reinit).toBe(false);
  });

  it('has its place: a session in a PRE_COPY state, and sizes that a record can have', () => {
    const { all } = saving();
    const { preCopy } = all.device.driver;
    for (const bytes of [15, 0, -1, 16.5, NaN]) expect(() => preCopy.dirty(bytes), `${bytes}`).toThrow(RangeError);
    expect(() => { preCopy.initialBytes = 3; }).toThrow(RangeError);
    soon(all, all.port.setState('stop-copy'));
    expect(() => preCopy.dirty(64)).toThrow('stop-copy');
    soon(all, all.port.setState('running'));
    expect(() => preCopy.reinit(64)).toThrow('running');
  });
});

describe('the stream of a software device', () => {
  const regions = (seed: number) => new Map([0, 3].map((index) => {
    const memory = new RegionMemory(index, 0x1000, () => undefined);
    memory.write(0, Uint8Array.from({ length: 0x1000 }, (_, n) => (n * seed + index) & 0xff));
    return [index, memory] as const;
  }));

  /** What a session says that was dirty in between. */
  const streamOf = (memory: ReturnType<typeof regions>, filling: readonly number[]): Uint8Array => {
    const session = new SaveSession(memory);
    for (const [n, bytes] of filling.entries()) if (n % 3 === 2) session.reinit(bytes); else session.fill(bytes, n % 2 === 0);
    session.stop();
    const chunks: Uint8Array[] = [];
    for (let chunk = session.read(3000); typeof chunk !== 'string' && chunk.kind === 'bytes'; chunk = session.read(3000)) chunks.push(chunk.bytes);
    return Buffer.concat(chunks);
  };

  it('is loaded whatever was between, and however it was cut', () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 16, max: 5000 }), { maxLength: 5 }), fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 8 }), (filling, cuts) => {
      const target = regions(1);
      const session = new ResumeSession(target);
      const bytes = streamOf(regions(7), filling);
      for (let at = 0, n = 0; at < bytes.length; n += 1) {
        const size = cuts[n % cuts.length] ?? 1;
        expect(session.write(bytes.subarray(at, at + size))).toBeUndefined();
        at += size;
      }
      expect(session.load()).toBeUndefined();
      for (const [index, memory] of regions(7)) expect(target.get(index)?.read(0, 0x1000)).toEqual(memory.read(0, 0x1000));
    }));
  });

  it('is refused where it was cut short, or is none', () => {
    fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 9000 }), fc.nat(), (noise, at) => {
      const whole = streamOf(regions(7), [64]);
      for (const bytes of [noise, whole.subarray(0, 1 + (at % (whole.length - 1)))]) {
        const target = regions(1);
        const session = new ResumeSession(target);
        expect([session.write(bytes), session.load()]).toContain('EINVAL');
        expect(target.get(0)?.read(0, 0x1000)).toEqual(regions(1).get(0)?.read(0, 0x1000));
      }
    }));
  });
});
