import { EMPTY, ignoreElements, of, tap, type Observable } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { DeviceBehaviour, DeviceBus } from '../../../src/devices/authored/behaviour.js';
import { VfioError } from '../../../src/errors.js';
import { codeOf, now } from '../../support/devices.js';
import { virtualClock } from '../../support/virtual-clock.js';
import { config, openedSample, setConfig } from './sample.js';

function failure(call: Observable<unknown>, flush: () => void): unknown {
  let code: unknown = 'nothing failed';
  call.subscribe({ error: (error: unknown) => (code = VfioError.is(error) && error.code) });
  flush();
  return code;
}

describe('the port of an authored device', () => {
  it('keeps configuration space and the table of MSI-X; the rest are the author\'s registers', () => {
    const heard: string[] = [];
    const clock = virtualClock();
    const port = openedSample(clock, ({ accesses }) => accesses.pipe(
      tap((access) => {
        heard.push(`${access.kind} ${access.bar}:${access.offset}+${access.size}${access.kind === 'write' ? `=${access.value}` : ''}`);
        if (access.kind === 'read') access.answer(access.offset);
      }),
      ignoreElements(),
    ));
    now(port.access({ region: 0, offset: 0x7fc, write: Uint8Array.of(1, 0, 0, 0x80, 9, 9, 9, 9, 8) }));
    expect([...now(port.access({ region: 2, offset: 1, readBytes: 3 }))]).toEqual([1, 2, 0]);
    expect(heard).toEqual(['write 0:2044+4=2147483649', 'read 2:1+1', 'read 2:2+2']);
    expect([...now(port.access({ region: 0, offset: 0x800, readBytes: 4 }))]).toEqual([9, 9, 9, 9]);
    setConfig(port, 4, 6);
    expect(config(port, 4, 2)).toBe(6);
    port.reset().subscribe();
    clock.flush();
    expect([config(port, 4, 2), now(port.access({ region: 0, offset: 0x800, readBytes: 1 }))[0]]).toEqual([0, 0]);
  });

  const counting = (): { readonly behaviour: DeviceBehaviour; heard: number } => {
    const counted = {
      heard: 0,
      behaviour: ({ accesses }: DeviceBus) => accesses.pipe(
        tap((access) => {
          counted.heard += 1;
          if (access.kind === 'read') access.answer(counted.heard);
        }),
        ignoreElements(),
      ),
    };
    return counted;
  };

  it('makes a long access in several turns', () => {
    const clock = virtualClock();
    const counted = counting();
    const port = openedSample(clock, counted.behaviour);
    let read: Uint8Array | undefined;
    port.access({ region: 0, offset: 0, readBytes: 0x800 }).subscribe({ next: (bytes) => (read = bytes), error: expect.unreachable });
    expect([counted.heard, read]).toEqual([256, undefined]);
    clock.flush();
    expect([counted.heard, new Uint32Array(read?.buffer ?? new ArrayBuffer(4)).at(-1)]).toEqual([512, 512]);
  });

  it('writes what was given when it was called, whatever the caller does with it meanwhile', () => {
    const clock = virtualClock();
    const values: number[] = [];
    const port = openedSample(clock, ({ accesses }) => accesses.pipe(
      tap((access) => { if (access.kind === 'write') values.push(access.value); }),
      ignoreElements(),
    ));
    const write = Buffer.alloc(0x800, 1);
    port.access({ region: 0, offset: 0, write }).subscribe({ error: expect.unreachable });
    write.fill(2);
    clock.flush();
    expect([values.length, new Set(values)]).toEqual([512, new Set([0x0101_0101])]);
  });

  it('stops a long access at a reset, and at a close', () => {
    const clock = virtualClock();
    const counted = counting();
    const port = openedSample(clock, counted.behaviour);
    const long = port.access({ region: 0, offset: 0, write: new Uint8Array(0x800) });
    const codes: unknown[] = [];
    const fail = (error: unknown): void => { codes.push(VfioError.is(error) && error.code); };
    // Its turn comes before that of the access that is begun behind it.
    port.reset().subscribe({ error: expect.unreachable });
    long.subscribe({ error: fail });
    clock.flush();
    long.subscribe({ error: fail });
    port.close();
    clock.flush();
    expect([counted.heard, codes]).toEqual([512, ['VFIO_E_CANCELED', 'VFIO_E_CLOSED']]);
  });

  it('refuses accesses that lie outside or are not aligned, and what it has not', () => {
    const clock = virtualClock();
    const port = openedSample(clock);
    for (const part of [{ offset: 8, readBytes: 1 }, { offset: 0, readBytes: 9 }, { offset: -1, readBytes: 1 }, { offset: 1, readBytes: 4 }, { offset: 0 }, { offset: 0, readBytes: 1, write: Uint8Array.of(1) }]) {
      expect(codeOf(() => now(port.access({ region: 2, ...part })))).toBe('VFIO_E_RANGE');
    }
    expect([1, 6, 8, 9].map((region) => codeOf(() => now(port.access({ region, offset: 0, readBytes: 1 }))))).toEqual(new Array(4).fill('VFIO_E_NO_REGION'));
    expect(codeOf(() => port.accessNow({ region: 2, offset: 0, readBytes: 1 }))).toBe('VFIO_E_WOULD_BLOCK');
    expect(codeOf(() => now(port.map(0, { offset: 0, size: 4096 })))).toBe('VFIO_E_RANGE');
    for (const call of [port.getState(), port.setState('stop'), port.lowPower(true), port.dmaLogging.stop()]) expect(failure(call, () => clock.flush())).toBe('VFIO_E_UNSUPPORTED');
    expect(now(port.migration())).toBeUndefined();
  });

  it('lets the device reach what is mapped, once it is a bus master', () => {
    const clock = virtualClock();
    let bus: DeviceBus | undefined;
    const listening: DeviceBehaviour = (given) => {
      bus = given;
      return EMPTY;
    };
    const port = openedSample(clock, listening);
    const memory = now(port.allocateDma(4096));
    port.dmaMap({ iova: 0x1000n, size: 4096, source: memory, read: true, write: true }).subscribe();
    clock.flush();
    const write = () => now(bus?.memory.write(0x1ffen, Uint8Array.of(1, 2)) ?? EMPTY);
    expect(codeOf(write)).toBe('VFIO_E_RANGE');
    setConfig(port, 4, 4);
    write();
    expect([...new Uint8Array(memory.memory).subarray(0xffe)]).toEqual([1, 2]);
    const remote = { read: () => of(Uint8Array.of(7)), write: () => of(undefined) };
    const range = { iova: 0x2000n, size: 4096 };
    now(port.dmaMapRemote?.({ ...range, read: true, write: true, memory: remote }) ?? EMPTY);
    expect(now(bus?.memory.read(0x2000n, 1) ?? EMPTY)).toEqual(Uint8Array.of(7));
    expect(failure(port.dmaMap({ ...range, source: memory, read: true, write: true }), () => clock.flush())).toBe('VFIO_E_BUSY');
    let gone = 0;
    port.dmaUnmap({ iova: 0x1000n, size: 0x2000 }).subscribe({ next: (bytes) => (gone = bytes), error: expect.unreachable });
    clock.flush();
    expect(gone).toBe(0x2000);
    expect(codeOf(() => now(bus?.memory.read(0x2000n, 1) ?? EMPTY))).toBe('VFIO_E_RANGE');
  });

  it('tells what closing did, and is closed then', () => {
    const clock = virtualClock();
    const port = openedSample(clock);
    now(port.irq({ index: 2, vector: 1 }));
    const told: string[] = [];
    port.close();
    port.close();
    port.released.subscribe({ next: ({ what }) => told.push(what), error: expect.unreachable, complete: () => told.push('released') });
    clock.flush();
    expect(told).toEqual(['irq 2, vector 1, disabled', 'device closed', 'released']);
    expect(codeOf(() => now(port.info()))).toBe('VFIO_E_CLOSED');
  });
});
