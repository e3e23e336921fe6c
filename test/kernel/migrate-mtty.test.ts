import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, Subject } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import { bothSides } from '../support/both-sides.js';
import { Command } from '../support/command.js';
import { vfioFds } from '../support/mdev.js';
import { logMttyArcs, Mtty, mttyArcs, mttyUsers, type MttyArc } from '../support/mtty.js';

/** The driver of 6.1 does not migrate. */
const early = process.env['VFIO_RX_KERNEL_SERIES'] === '6.1';

const registers = { data: 0, fifoControl: 2, lineStatus: 5, scratch: 7 };
const received = 1;

/** What the guest of device n left in it: its own scratch byte, and bytes in the fifo that nobody has read. */
const scratchOf = (n: number) => 0x50 + n;
const fifoOf = (n: number) => [11 + n, 22 + n, 33 + n];

describe('migrate and receive with mtty on the real kernel', () => {
  let mttys: Mtty[];
  let devices: VfioDevice[];
  let usersBefore: number;

  const open = async (count: number): Promise<readonly VfioDevice[]> => {
    const opened: VfioDevice[] = [];
    for (let n = 0; n < count; n += 1) {
      const mtty = new Mtty();
      mttys.push(mtty);
      opened.push(await firstValueFrom(openDevice(mtty.uuid)));
    }
    devices.push(...opened);
    return opened;
  };
  const fill = (device: VfioDevice, n: number): void => {
    const write = (register: number, value: number) => device.region(0).write8(register, value);
    write(registers.fifoControl, 1);
    write(registers.scratch, scratchOf(n));
    for (const byte of fifoOf(n)) write(registers.data, byte);
  };
  /** The scratch byte, and what the fifo holds: reading takes it out. */
  const contents = (device: VfioDevice): readonly [scratch: number, fifo: readonly number[]] => {
    const read = (register: number) => device.region(0).read8(register);
    const fifo: number[] = [];
    while ((read(registers.lineStatus) & received) !== 0) fifo.push(read(registers.data));
    return [read(registers.scratch), fifo];
  };
  /** As the kernel says it. */
  const states = (some: readonly VfioDevice[]) => Promise.all(some.map((device) => lastValueFrom(device.port.getState())));
  /** The arcs of one device, as its driver says them: `running>pre-copy`. */
  const arcsOf = (device: VfioDevice) => mttyArcs(mttys.filter(({ uuid }) => uuid === device.name)).map(({ from, to }) => `${from}>${to}`);

  beforeEach((ctx) => {
    mttys = [];
    devices = [];
    if (early) ctx.skip('mtty of this kernel cannot migrate');
    logMttyArcs();
    usersBefore = mttyUsers();
  });

  afterEach(async () => {
    for (const device of devices) await device.close();
    expect(vfioFds()).toEqual([]);
    expect(mttyUsers()).toBe(usersBefore);
    for (const mtty of mttys) mtty[Symbol.dispose]();
  });

  it('one device moves: what was written to the source stands in the destination, which runs; the source has stopped', async () => {
    const [source, destination] = (await open(2)) as [VfioDevice, VfioDevice];
    expect(source.migration).toEqual({ version: 2, flags: 7 });
    fill(source, 0);
    const held = mttyUsers();
    const told = await bothSides([source], [destination]);
    expect([told.source.error, told.destination.error]).toEqual([undefined, undefined]);
    expect(told.source.phases).toEqual(['check', 'pre-copy', 'stop', 'transfer', 'prepare', 'commit', 'release', 'moved']);
    expect(told.destination.phases).toEqual(['check', 'pre-copy', 'transfer', 'prepare', 'commit', 'release', 'moved']);
    expect([told.source.records, told.destination.records]).toEqual([['begun', 'decided', 'moved'], ['begun', 'prepared', 'running']]);
    expect(await states([source, destination])).toEqual(['stop', 'running']);
    expect(contents(destination)).toEqual([scratchOf(0), fifoOf(0)]);
    // No data_fd is open any more.
    expect(mttyUsers()).toBe(held);
    expect(arcsOf(source)).toEqual(['running>pre-copy', 'pre-copy>pre-copy-p2p', 'pre-copy-p2p>stop-copy', 'stop-copy>stop']);
    expect(arcsOf(destination)).toEqual(['running>running-p2p', 'running-p2p>stop', 'stop>resuming', 'resuming>stop', 'stop>running-p2p', 'running-p2p>running']);
  });

  it('eight devices move together: none goes on before all have come as far', async () => {
    const count = 8;
    const all = await open(2 * count);
    const [sources, destinations] = [all.slice(0, count), all.slice(count)];
    sources.forEach(fill);
    let decided: readonly string[] = [];
    const soFar = (): readonly string[] => steps(mttyArcs(mttys).slice(3 * count));
    const told = await bothSides(sources, destinations, {
      watch: ({ phase }) => {
        if (phase === 'commit') decided = soFar();
      },
    });
    expect([told.source.error, told.destination.error]).toEqual([undefined, undefined]);
    expect(await states(all)).toEqual([...sources.map(() => 'stop'), ...destinations.map(() => 'running')]);
    expect(destinations.map(contents)).toEqual(sources.map((_, n) => [scratchOf(n), fifoOf(n)]));
    // As the driver has it, both sides in one log, from where the destinations were ready: three arcs each to RESUMING.
    const prepared = ['8 running>pre-copy', '8 pre-copy>pre-copy-p2p', '8 pre-copy-p2p>stop-copy', '8 resuming>stop'];
    expect(decided).toEqual(prepared);
    expect(soFar()).toEqual([...prepared, '8 stop>running-p2p', '8 running-p2p>running', '8 stop-copy>stop']);
  }, 240_000);

  it('two devices are given up when they have stopped: both run again together, with all that they held', async () => {
    const all = await open(4);
    const [sources, destinations] = [all.slice(0, 2), all.slice(2)];
    sources.forEach(fill);
    const abort = new Subject<void>();
    const held = mttyUsers();
    const told = await bothSides(sources, destinations, {
      plan: { abort },
      watch: ({ phase }) => {
        if (phase === 'transfer') abort.next();
      },
    });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect(told.destination.error).toMatchObject({ code: 'VFIO_E_PEER', message: expect.stringContaining(`left in RESUMING: ${destinations.map(({ name }) => `${name} (it has no reset)`).join(', ')}.`) as string });
    expect(await states(sources)).toEqual(['running', 'running']);
    for (const source of sources) expect(arcsOf(source).slice(-4)).toEqual(['pre-copy-p2p>stop-copy', 'stop-copy>stop', 'stop>running-p2p', 'running-p2p>running']);
    expect(steps(mttyArcs(mttys.slice(0, 2))).at(-1)).toBe('2 running-p2p>running');
    expect(sources.map(contents)).toEqual(sources.map((_, n) => [scratchOf(n), fifoOf(n)]));
    // mtty does not claim a reset, so it stays where it was. It has one, and opened again in RESUMING the kernel would die of it.
    expect(await states(destinations)).toEqual(['resuming', 'resuming']);
    for (const { port } of destinations) await lastValueFrom(port.reset());
    expect(mttyUsers()).toBe(held);
    expect(await states(destinations)).toEqual(['running', 'running']);
  });

  it.each([1, 8])('%i devices move between two processes over TCP', { timeout: 240_000 }, async (count) => {
    const make = (): readonly Mtty[] => Array.from({ length: count }, () => new Mtty());
    const [from, to] = [make(), make()];
    mttys.push(...from, ...to);
    for (const [n, mtty] of from.entries()) await withOpen(mtty, (device) => { fill(device, n); });
    const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-'));
    const named = (all: readonly Mtty[]): readonly string[] => all.map(({ uuid }, n) => `${uuid}=vf${n}`);
    const destination = new Command('receive', ...named(to), '--at', 'tcp://127.0.0.1:0', '--journal', join(folder, 'to.journal'), '--exit', '--patience', '60000');
    const { listening } = await destination.says((line) => 'listening' in line);
    const source = new Command('migrate', ...named(from), '--to', String(listening), '--journal', join(folder, 'from.journal'), '--patience', '60000');
    expect(await Promise.all([source.ended, destination.ended])).toEqual([0, 0]);
    // None of a process goes on before all of it have come as far.
    expect(steps(mttyArcs(from))).toEqual(['running>pre-copy', 'pre-copy>pre-copy-p2p', 'pre-copy-p2p>stop-copy', 'stop-copy>stop'].map((arc) => `${count} ${arc}`));
    expect(steps(mttyArcs(to)).slice(-3)).toEqual(['resuming>stop', 'stop>running-p2p', 'running-p2p>running'].map((arc) => `${count} ${arc}`));
    // Both processes are gone: mtty keeps what it holds.
    for (const [n, mtty] of to.entries()) expect(await withOpen(mtty, contents)).toEqual([scratchOf(n), fifoOf(n)]);
    rmSync(folder, { recursive: true });
  });
});

/** Opens the device for a moment. */
async function withOpen<T>({ uuid }: Mtty, body: (device: VfioDevice) => T): Promise<T> {
  const device = await firstValueFrom(openDevice(uuid));
  try {
    return body(device);
  } finally {
    await device.close();
  }
}

/** One step after the other: how many devices began it before any began another. */
function steps(arcs: readonly MttyArc[]): readonly string[] {
  const runs: { readonly arc: string; count: number }[] = [];
  for (const { from, to } of arcs) {
    const arc = `${from}>${to}`;
    const last = runs.at(-1);
    if (last?.arc === arc) last.count += 1;
    else runs.push({ arc, count: 1 });
  }
  return runs.map(({ arc, count }) => `${count} ${arc}`);
}
