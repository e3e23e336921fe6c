import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom, lastValueFrom, Subject } from 'rxjs';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { openDevice } from '../../src/devices/open.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { fileJournal } from '../../src/migration/file-journal.js';
import { memoryJournal } from '../../src/migration/journal.js';
import { migrate } from '../../src/migration/migrate.js';
import type { Moved } from '../../src/migration/plan.js';
import { receive } from '../../src/migration/receive.js';
import { fileTransport } from '../../src/transport/file-transport.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import type { Transport } from '../../src/transport/transport.js';
import { contents, fill, small, type Opened } from './pair.js';

/** What the machine itself does to a migration: its disk is full, its clock is set. */

const folder = mkdtempSync(join(tmpdir(), 'vfio-rx-full-'));
const mounted: string[] = [];

/** A file system that has so little room. */
function fileSystem(kib: number): string {
  const at = mkdtempSync(join(folder, 'disk-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${kib}k`, 'none', at]);
  mounted.push(at);
  return at;
}

afterAll(() => {
  for (const at of mounted) execFileSync('umount', [at]);
  rmSync(folder, { recursive: true });
});

async function opened(side: string): Promise<readonly Opened[]> {
  const software = [0, 1].map((n) => softwareDevice({ ...small, name: `${side}${n}` }));
  return Promise.all(software.map(async (one) => ({ device: await firstValueFrom(openDevice(one)), driver: one.driver })));
}

/** Two devices on each side, in real time; each side's journal where it is said. */
async function moved(journals: { readonly source?: string; readonly destination?: string } = {}, transport: { readonly connecting: Transport; readonly listening: Transport } = memoryTransport()) {
  const [source, destination] = [await opened('vf'), await opened('to')];
  source.forEach(fill);
  const journal = (path: string | undefined) => (path === undefined ? memoryJournal() : fileJournal(path));
  // A receiver waits for its source as long as it takes: for one that never comes, until it is told.
  const abort = new Subject<void>();
  const ends = await Promise.allSettled([
    lastValueFrom(migrate({ devices: source.map(({ device }, n) => ({ source: device, destination: `d${n}` })), transport: transport.connecting, journal: journal(journals.source) })).catch((error: unknown) => {
      abort.next();
      throw error;
    }),
    lastValueFrom(receive({ devices: destination.map(({ device }, n) => ({ name: `d${n}`, destination: device })), transport: transport.listening, journal: journal(journals.destination), abort })),
  ]);
  return { source, destination, ends };
}

describe('a disk that is full', () => {
  it.for([
    ['source', 'at once', 4], ['source', 'in the middle of the first entry', 96],
    ['destination', 'at once', 4], ['destination', 'in the middle of the first entry', 96],
  ] as const)("the %s's, %s: nothing is stopped, nothing is loaded, and nothing lies in the way of the next attempt", async ([side, , kib], ctx) => {
    if (process.getuid?.() !== 0) ctx.skip('only root may mount a file system that is full');
    const path = join(fileSystem(kib), 'journal');
    const { source, destination, ends } = await moved({ [side]: path });
    expect(ends[0]).toMatchObject({ status: 'rejected', reason: { code: side === 'source' ? 'VFIO_E_JOURNAL' : 'VFIO_E_PEER' } });
    expect(ends[1]).toMatchObject({ status: 'rejected', reason: { code: side === 'source' ? 'VFIO_E_ABORTED' : 'VFIO_E_JOURNAL' } });
    expect(source.map(({ device }) => device.currentState.state)).toEqual(['running', 'running']);
    expect(destination.map(contents)).not.toEqual(source.map(contents));
    expect(existsSync(path)).toBe(false);
  });
});

describe('a migration through files', () => {
  it('moves devices whole, and leaves no file', async () => {
    const at = mkdtempSync(join(folder, 'through-'));
    const { source, destination, ends } = await moved({}, fileTransport(at, { segmentBytes: 4096 }));
    expect(ends).toMatchObject([{ status: 'fulfilled', value: { phase: 'moved' } }, { status: 'fulfilled', value: { phase: 'moved' } }]);
    expect(destination.map(contents)).toEqual(source.map(contents));
    await vi.waitFor(() => { expect(readdirSync(at)).toEqual([]); }, { timeout: 30_000 });
  });

  it('ends with the source running where their disk is full', async (ctx) => {
    if (process.getuid?.() !== 0) ctx.skip('only root may mount a file system that is full');
    const { source, destination, ends } = await moved({}, fileTransport(fileSystem(16)));
    expect(ends).toMatchObject([{ status: 'rejected', reason: { code: 'VFIO_E_LINK', message: expect.stringContaining('ENOSPC') as string } }, { status: 'rejected' }]);
    expect(source.map(({ device }) => device.currentState.state)).toEqual(['running', 'running']);
    expect(destination.map(contents)).not.toEqual(source.map(contents));
  });
});

describe('a clock that jumps', () => {
  it('hours forward and back at every look: the migration goes on, and its times are true', async () => {
    let hours = 0;
    const jumping = vi.spyOn(Date, 'now').mockImplementation(() => (hours = 5 - hours) * 3_600_000);
    const began = process.hrtime.bigint();
    const { source, destination, ends } = await moved().finally(() => jumping.mockRestore());
    expect(ends).toMatchObject([{ status: 'fulfilled', value: { phase: 'moved' } }, { status: 'fulfilled', value: { phase: 'moved' } }]);
    expect(destination.map(contents)).toEqual(source.map(contents));
    const { downtimeNs } = (ends[0] as PromiseFulfilledResult<Moved>).value;
    expect(downtimeNs).toBeGreaterThan(0n);
    expect(downtimeNs).toBeLessThan(process.hrtime.bigint() - began);
  });
});
