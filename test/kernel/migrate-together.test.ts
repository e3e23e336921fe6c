import { EMPTY, firstValueFrom, tap } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { memoryJournal } from '../../src/migration/journal.js';
import type { InDoubt } from '../../src/migration/plan.js';
import { resolve } from '../../src/migration/resolve.js';
import { memoryTransport } from '../../src/transport/memory-transport.js';
import { bothSides } from '../support/both-sides.js';
import { contents, fill, regionOf, servedSamples, type Served } from '../support/served-sample.js';
import { arcsIn, remapsIn, sections } from '../support/trace-sections.js';

/** The driver of version 1 has no P2P states; where there are some they are gone through all the same. */
const noPeerToPeer = true;

describe.each([1, 2] as const)('several devices of the sample driver, version %i, on the real kernel', (migration) => {
  const serve = servedSamples();
  const three = async (): Promise<readonly Served[]> => [await serve(migration), await serve(migration), await serve(migration)];
  const devicesOf = (some: readonly Served[]) => some.map(({ device }) => device);
  const statesOf = (some: readonly Served[]) => some.map(({ mdev }) => mdev.read('state'));

  it('move together, each with its own bytes, while all their drivers demand remaps', async () => {
    const [sources, destinations] = [await three(), await three()];
    for (const [n, { device }] of sources.entries()) await fill(device, n);
    const before = await Promise.all(devicesOf(sources).map(contents));
    expect(new Set(before).size).toBe(3);
    const demanded: Promise<unknown>[] = [];
    const told = await bothSides(devicesOf(sources), devicesOf(destinations), {
      plan: { noPeerToPeer },
      watch: ({ phase }) => {
        if (phase !== 'transfer' || demanded.length > 0) return;
        for (const one of [...sources, ...destinations]) {
          demanded.push(one.next());
          one.mdev.write('revoke', regionOf.bytes);
        }
      },
    });
    expect([told.source.error, told.destination.error]).toEqual([undefined, undefined]);
    await Promise.all(demanded);
    expect([statesOf(sources), statesOf(destinations)]).toEqual([['STOP', 'STOP', 'STOP'], ['RUNNING', 'RUNNING', 'RUNNING']]);
    expect(await Promise.all(devicesOf(destinations).map(contents))).toEqual(before);
    const p2p = migration === 2;
    for (const { mdev } of sources) {
      expect(arcsIn(mdev.trace())).toEqual(p2p ? ['RUNNING>PRE_COPY', 'PRE_COPY>PRE_COPY_P2P', 'PRE_COPY_P2P>STOP_COPY', 'STOP_COPY>STOP'] : ['RUNNING>PRE_COPY', 'PRE_COPY>STOP_COPY', 'STOP_COPY>STOP']);
      expect(remapsIn(sections(mdev.trace())['STOP_COPY'], regionOf.bytes).slice(0, 3)).toEqual(['signal', 'munmap 1', 'ack']);
    }
    for (const { mdev } of destinations) {
      expect(arcsIn(mdev.trace())).toEqual(['RUNNING>RESUMING', 'RESUMING>STOP', ...(p2p ? ['STOP>RUNNING_P2P', 'RUNNING_P2P>RUNNING'] : ['STOP>RUNNING'])]);
      expect(remapsIn(sections(mdev.trace())['RESUMING'], regionOf.bytes)).toEqual(['signal', 'munmap 1', 'munmap 1', 'ack']);
    }
    for (const { mdev } of [...sources, ...destinations]) expect(mdev.read('acked')).toBe(mdev.read('sent'));
  });

  /** COMMIT is lost when the source has written its decision down. */
  const inDoubt = async () => {
    const [sources, destinations] = [[await serve(migration), await serve(migration)], [await serve(migration), await serve(migration)]];
    for (const [n, { device }] of sources.entries()) await fill(device, n);
    const before = await Promise.all(devicesOf(sources).map(contents));
    const [transport, kept, toJournal] = [memoryTransport(), memoryJournal(), memoryJournal()];
    const journal: typeof kept = { ...kept, write: (entry) => kept.write(entry).pipe(tap(() => { if (entry.record === 'decided') queueMicrotask(() => transport.cut()); })) };
    const told = await bothSides(devicesOf(sources), devicesOf(destinations), { plan: { transport: transport.connecting, journal, noPeerToPeer }, receivePlan: { transport: transport.listening, journal: toJournal } });
    const [source, destination] = [told.source.events.at(-1), told.destination.events.at(-1)] as [InDoubt, InDoubt];
    expect([source.phase, destination.phase]).toEqual(['in-doubt', 'in-doubt']);
    // Neither side runs, and each has all of it.
    expect([statesOf(sources), statesOf(destinations)]).toEqual([['STOP_COPY', 'STOP_COPY'], ['STOP', 'STOP']]);
    return { sources, destinations, before, transport, toJournal, source, destination };
  };

  it('in doubt: asked anew over another connection the destination runs them', async () => {
    const { sources, destinations, before, source, destination } = await inDoubt();
    expect(await Promise.all([firstValueFrom(destination.resolve()), firstValueFrom(source.resolve())])).toEqual(['moved', 'moved']);
    expect([statesOf(sources), statesOf(destinations)]).toEqual([['STOP', 'STOP'], ['RUNNING', 'RUNNING']]);
    expect(await Promise.all(devicesOf(destinations).map(contents))).toEqual(before);
  });

  it('in doubt, and given up by the destination: none of it ever runs there, and the source takes them back', async () => {
    const { sources, destinations, before, transport, toJournal, source, destination } = await inDoubt();
    expect(await firstValueFrom(destination.giveUp?.() ?? EMPTY)).toBe('not-moved');
    const promised = firstValueFrom(resolve({ journal: toJournal, transport: transport.listening }));
    expect(await Promise.all([promised, firstValueFrom(source.resolve())])).toEqual(['not-moved', 'not-moved']);
    expect([statesOf(sources), statesOf(destinations)]).toEqual([['RUNNING', 'RUNNING'], ['STOP', 'STOP']]);
    expect(await Promise.all(devicesOf(sources).map(contents))).toEqual(before);
    for (const { mdev } of destinations) expect(arcsIn(mdev.trace())).toEqual(['RUNNING>RESUMING', 'RESUMING>STOP']);
  });
});
