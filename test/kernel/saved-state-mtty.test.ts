import { concatMap, firstValueFrom, from, lastValueFrom, map, of, reduce, toArray } from 'rxjs';
import { afterEach, beforeEach, expect, it, describe } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { dirtyPages } from '../../src/streams/dirty-pages.js';
import { resumeState } from '../../src/streams/resume-state.js';
import { savedState, type SavedState } from '../../src/streams/saved-state.js';
import { transition } from '../../src/streams/transition.js';
import { kernelWays } from '../support/kernel-ways.js';
import { vfioFds } from '../support/mdev.js';
import { Mtty } from '../support/mtty.js';
import { drained } from '../support/saved.js';

const registers = { data: 0, fifoControl: 2, lineStatus: 5, scratch: 7 };
const received = 1;

/** A round: all that there is now, and how it ended. */
async function round(saved: SavedState): Promise<{ readonly bytes: Buffer; readonly ends: string }> {
  const chunks = await lastValueFrom(drained(saved).pipe(toArray()));
  return { bytes: Buffer.concat(chunks.flatMap((chunk) => (chunk.kind === 'bytes' ? [chunk.bytes] : []))), ends: chunks.at(-1)?.kind ?? '' };
}

describe('the state of mtty on the real kernel', () => {
  let mttys: Mtty[];
  let devices: VfioDevice[];

  const open = async (): Promise<VfioDevice> => {
    const mtty = new Mtty();
    mttys.push(mtty);
    const device = await firstValueFrom(openDevice(mtty.uuid));
    devices.push(device);
    return device;
  };
  const write = (device: VfioDevice, register: number, value: number) => device.region(0).write8(register, value);
  const read = (device: VfioDevice, register: number) => device.region(0).read8(register);
  const go = (device: VfioDevice, to: Parameters<typeof transition>[1]) => lastValueFrom(transition(device, to));

  beforeEach(() => {
    mttys = [];
    devices = [];
  });

  afterEach(async () => {
    for (const device of devices) await device.close();
    expect(vfioFds()).toEqual([]);
    for (const mtty of mttys) mtty[Symbol.dispose]();
  });

  it('is saved in rounds of PRE_COPY and resumed on another, whose state is the same byte for byte', async (ctx) => {
    const [source, target] = [await open(), await open()];
    if (source.migration === undefined) ctx.skip('mtty of this kernel cannot migrate');
    expect(source.migration).toEqual({ version: 2, flags: 7 });
    write(source, registers.fifoControl, 1);
    write(source, registers.scratch, 0x5a);
    for (const byte of [11, 22, 33]) write(source, registers.data, byte);

    const saved = await lastValueFrom(savedState(source));
    const estimates: bigint[] = [];
    let ended = false;
    saved.rounds.subscribe({ next: ({ initialBytes, dirtyBytes }) => estimates.push(initialBytes + dirtyBytes), complete: () => { ended = true; }, error: () => undefined });
    const first = await round(saved);
    // mtty answers 0 where the interface says ENOMSG: no more for now, and not the end.
    expect(first.ends).toBe('quiet');
    expect(estimates).toEqual([BigInt(first.bytes.length), 0n]);
    expect(first.bytes.length).toBeGreaterThan(0);
    await go(source, 'pre-copy-p2p');
    const second = await round(saved);
    expect([second.ends, second.bytes.length, estimates.length, ended]).toEqual(['quiet', 0, 3, false]);
    await go(source, 'stop-copy');
    expect(ended).toBe(true);
    await expect(lastValueFrom(saved.precopy())).rejects.toMatchObject({ code: 'VFIO_E_RANGE', errno: 'EINVAL' });
    const last = await round(saved);
    expect(last.ends).toBe('end');
    const whole = Buffer.concat([first.bytes, last.bytes]);

    const into = await lastValueFrom(resumeState(target));
    await lastValueFrom(from([first.bytes, last.bytes]).pipe(concatMap((bytes) => into.write(bytes)), reduce((done) => done, undefined)));
    expect(await lastValueFrom(into.end().pipe(map(({ from: before, to }) => [before, to])))).toEqual(['resuming', 'stop']);
    const again = await lastValueFrom(savedState(target, { from: 'stop-copy' }));
    const copy = await round(again);
    expect([copy.ends, copy.bytes.equals(whole)]).toEqual(['end', true]);
    await lastValueFrom(again.close());
    await go(target, 'running');
    expect(read(target, registers.scratch)).toBe(0x5a);
    for (const byte of [11, 22, 33]) {
      expect(read(target, registers.lineStatus) & received).toBe(received);
      expect(read(target, registers.data)).toBe(byte);
    }
    await go(source, 'stop');
    await expect(lastValueFrom(saved.read(1))).rejects.toMatchObject({ code: 'VFIO_E_NO_DEVICE' });
    await lastValueFrom(saved.close());
  });

  it('stays where it was after wrong bytes, and is given up by a reset', async (ctx) => {
    const target = await open();
    if (target.migration === undefined) ctx.skip('mtty of this kernel cannot migrate');
    const into = await lastValueFrom(resumeState(target));
    // It judges the header as soon as that is whole, and what it has when RESUMING is left.
    await lastValueFrom(into.write(new Uint8Array(8).fill(7)));
    await expect(lastValueFrom(into.end())).rejects.toMatchObject({ errno: 'EINVAL' });
    expect(target.currentState.state).toBe('resuming');
    // mtty does not claim a reset, and has one.
    await expect(lastValueFrom(into.reset())).rejects.toMatchObject({ code: 'VFIO_E_UNSUPPORTED' });
    await lastValueFrom(target.port.reset());
    expect(await lastValueFrom(target.port.getState())).toBe('running');
  });

  it('is refused before its driver is asked where that would never return', async (ctx) => {
    const source = await open();
    if (source.migration === undefined) ctx.skip('mtty of this kernel cannot migrate');
    const saved = await lastValueFrom(savedState(source, { from: 'stop-copy' }));
    for (const to of ['pre-copy', 'pre-copy-p2p', 'error'] as const) await expect(go(source, to)).rejects.toMatchObject({ code: 'VFIO_E_ARC' });
    await lastValueFrom(saved.close());
    await go(source, 'running');
  });

  it('judges a header as soon as it is whole', async (ctx) => {
    const target = await open();
    if (target.migration === undefined) ctx.skip('mtty of this kernel cannot migrate');
    const into = await lastValueFrom(resumeState(target));
    await expect(lastValueFrom(into.write(new Uint8Array(24).fill(7)))).rejects.toMatchObject({ code: 'VFIO_E_IO', errno: 'EFAULT' });
    await lastValueFrom(into.close());
  });

  it('has a log of written pages that starts, and can be reported where the kernel has iommufd; else all must be taken for written', async (ctx) => {
    const source = await open();
    if (source.migration === undefined) ctx.skip('mtty of this kernel cannot migrate');
    const log = dirtyPages(source, { ranges: [{ iova: 0n, size: 1 << 20 }], when: of(1) });
    // The kernel's bitmaps of a log belong to iommufd.
    if (kernelWays.length > 1) {
      expect(await lastValueFrom(log)).toMatchObject({ pages: 0 });
      return;
    }
    await expect(lastValueFrom(log)).rejects.toMatchObject({ code: 'VFIO_E_LOG_LOST', cause: { code: 'VFIO_E_UNSUPPORTED', errno: 'EOPNOTSUPP' } });
    // It was stopped: another one may start.
    await expect(lastValueFrom(log)).rejects.toMatchObject({ code: 'VFIO_E_LOG_LOST' });
  });
});
