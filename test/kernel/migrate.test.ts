import { concatMap, type OperatorFunction } from 'rxjs';
import { describe, expect, it } from 'vitest';
import type { Remap } from '../../src/devices/remap-batch.js';
import type { RoundReport, RoundVerdict } from '../../src/migration/fit-downtime.js';
import { bothSides } from '../support/both-sides.js';
import { contents, fill, regionOf, servedSamples, type Served } from '../support/served-sample.js';
import { arcsIn, remapsIn, sections } from '../support/trace-sections.js';

describe.each([1, 2] as const)('migrate and receive with the sample driver, version %i, on the real kernel', (migration) => {
  const serve = servedSamples();

  it('one device moves, byte for byte, while its driver demands remaps in every state that saves', async () => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    await fill(source.device);
    const before = await contents(source.device);
    const demand = (of: Served, act: 'revoke' | 'restore'): Promise<Remap> => {
      const next = of.next();
      of.mdev.write(act, regionOf.bytes);
      return next;
    };
    // A round after each demand, and no other round before it has been served.
    const acts = ['revoke', 'restore'] as const;
    const policy: OperatorFunction<RoundReport, RoundVerdict> = concatMap(async ({ round }) => {
      const act = acts[round - 1];
      if (act === undefined) return 'switch-over';
      await demand(source, act);
      return 'again';
    });
    const demanded: Promise<Remap>[] = [];
    const told = await bothSides([source.device], [destination.device], {
      plan: { policy },
      watch: ({ phase }) => {
        if (phase === 'transfer' && demanded.length === 0) demanded.push(demand(source, 'revoke'), demand(destination, 'revoke'));
      },
    });
    expect([told.source.error, told.destination.error]).toEqual([undefined, undefined]);
    await Promise.all(demanded);
    expect([source.mdev.read('state'), destination.mdev.read('state')]).toEqual(['STOP', 'RUNNING']);
    expect([await contents(source.device), await contents(destination.device)]).toEqual([before, before]);

    const saved = source.mdev.trace();
    expect(arcsIn(saved)).toEqual(['RUNNING>PRE_COPY', 'PRE_COPY>STOP_COPY', 'STOP_COPY>STOP']);
    // What a device in the saving group does not offer goes before the write of device_state returns.
    expect(sections(saved)['RUNNING']).toEqual(expect.arrayContaining(['signal', 'wait', 'munmap 0', 'ack', 'release']));
    expect(remapsIn(sections(saved)['PRE_COPY'], regionOf.bytes)).toEqual(['signal', 'munmap 1', 'ack', 'signal', 'mmap 1', 'ack']);
    // The last signal is the arc out of the saving group: all is offered again.
    expect(remapsIn(sections(saved)['STOP_COPY'], regionOf.bytes).slice(0, 3)).toEqual(['signal', 'munmap 1', 'ack']);
    const loaded = destination.mdev.trace();
    expect(arcsIn(loaded)).toEqual(['RUNNING>RESUMING', 'RESUMING>STOP', 'STOP>RUNNING']);
    // Outside the saving group both of its areas are offered, so both go.
    expect(remapsIn(sections(loaded)['RESUMING'], regionOf.bytes)).toEqual(['signal', 'munmap 1', 'munmap 1', 'ack']);
    for (const { mdev } of [source, destination]) expect(mdev.read('acked')).toBe(mdev.read('sent'));
  });
});
