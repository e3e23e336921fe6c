import { concatMap, filter, firstValueFrom, lastValueFrom, Subject, type OperatorFunction } from 'rxjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { VfioDevice } from '../../src/devices/device.js';
import { openDevice } from '../../src/devices/open.js';
import type { Remap } from '../../src/devices/remap-batch.js';
import type { RoundReport, RoundVerdict } from '../../src/migration/fit-downtime.js';
import { remapRegions } from '../../src/operators/remap-regions.js';
import { remapIrq } from '../../src/streams/remap-irq.js';
import { bothSides } from '../support/both-sides.js';
import { nothingHeld, SampleMdev, vfioFds } from '../support/mdev.js';
import { arcsIn, remapsIn, sections } from '../support/trace-sections.js';

/** An emulated processor may take seconds to start a thread: the driver's clock decides nothing here. */
const patientMs = 60_000;
const regionOf = { bytes: 1, registers: 2 } as const;

interface Served {
  readonly mdev: SampleMdev;
  readonly device: VfioDevice;
  /** The next batch that a signal brings. */
  readonly next: () => Promise<Remap>;
}

describe.each([1, 2] as const)('migrate and receive with the sample driver, version %i, on the real kernel', (migration) => {
  let all: Served[];

  const serve = async (): Promise<Served> => {
    const mdev = new SampleMdev({ ackTimeoutMs: patientMs, migration });
    const device = await firstValueFrom(openDevice(mdev.uuid));
    const told = new Subject<Remap>();
    const first = firstValueFrom(told);
    remapIrq(device).pipe(remapRegions(device)).subscribe({ next: (remap) => told.next(remap), error: () => undefined });
    const served = { mdev, device, next: () => firstValueFrom(told.pipe(filter(({ because }) => because === 'signal'))) };
    all.push(served);
    await first;
    return served;
  };
  const fill = async ({ device }: Served): Promise<void> => {
    const written = Uint8Array.from({ length: 2048 }, (_, n) => (n * 7) & 0xff);
    await lastValueFrom(device.port.access({ region: regionOf.registers, offset: 0x100, write: written }));
    await lastValueFrom(device.port.access({ region: regionOf.bytes, offset: 0x1_0000, write: written }));
  };
  const contents = async ({ device }: Served): Promise<string> => {
    const parts = [regionOf.bytes, regionOf.registers].map((region) => lastValueFrom(device.port.access({ region, offset: 0, readBytes: device.region(region).size })));
    return Buffer.concat(await Promise.all(parts)).toString('base64');
  };

  beforeEach(() => {
    all = [];
  });

  afterEach(async () => {
    for (const { device, mdev } of all) {
      await device.close();
      expect([mdev.held(), mdev.number('violations')]).toEqual([nothingHeld, 0]);
      mdev[Symbol.dispose]();
    }
    expect(vfioFds()).toEqual([]);
  });

  it('one device moves, byte for byte, while its driver demands remaps in every state that saves', async () => {
    const [source, destination] = [await serve(), await serve()];
    await fill(source);
    const before = await contents(source);
    source.mdev.write('trace', 0);
    destination.mdev.write('trace', 0);
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
    expect([await contents(source), await contents(destination)]).toEqual([before, before]);

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
    for (const { mdev } of all) expect(mdev.read('acked')).toBe(mdev.read('sent'));
  });

  it.each(['pre-copy', 'stop', 'transfer', 'prepare'])('given up in phase %s: the source runs as before, the destination never ran, and neither driver holds more than before', async (phase) => {
    const [source, destination] = [await serve(), await serve()];
    await fill(source);
    const before = await contents(source);
    const held = () => [...all.map(({ mdev }) => mdev.held()), vfioFds().length];
    const heldBefore = held();
    for (const { mdev } of all) mdev.write('trace', 0);
    const abort = new Subject<void>();
    const told = await bothSides([source.device], [destination.device], {
      plan: { abort },
      watch: (event) => {
        if (event.phase === phase) abort.next();
      },
    });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect(told.destination.error).toMatchObject({ code: 'VFIO_E_PEER' });
    expect([source.mdev.read('state'), source.device.currentState.state]).toEqual(['RUNNING', 'running']);
    expect(arcsIn(destination.mdev.trace())).not.toContain('STOP>RUNNING');
    expect(held()).toEqual(heldBefore);
    expect(await contents(source)).toBe(before);
    expect(await contents(destination) === before).toBe(destination.mdev.read('state') === 'STOP');
  });
});
