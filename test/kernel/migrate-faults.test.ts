import { map, of, Subject, take } from 'rxjs';
import { describe, expect, it } from 'vitest';
import { bothSides, type BothSidesOptions, type Told } from '../support/both-sides.js';
import { vfioFds } from '../support/mdev.js';
import { contents, fill, servedSamples, type Served } from '../support/served-sample.js';
import { arcsIn } from '../support/trace-sections.js';

describe.each([1, 2] as const)('a migration that fails with the sample driver, version %i, on the real kernel', (migration) => {
  const serve = servedSamples();

  /** Tries to move one to the other; the source runs as before, and neither driver holds more than before. `left`: the destination's state. */
  const notMoved = async (source: Served, destination: Served, options: BothSidesOptions, left?: 'STOP'): Promise<{ readonly source: Told; readonly destination: Told }> => {
    await fill(source.device);
    const before = await contents(source.device);
    const held = () => [source.mdev.held(), destination.mdev.held(), vfioFds().length];
    const heldBefore = held();
    const told = await bothSides([source.device], [destination.device], options);
    expect([source.mdev.read('state'), source.device.currentState.state]).toEqual(['RUNNING', 'running']);
    expect(await contents(source.device)).toBe(before);
    expect(held()).toEqual(heldBefore);
    // The destination never ran with it: it was reset, or where it had loaded all of it already, it has stopped.
    const arcs = arcsIn(destination.mdev.trace());
    const loaded = arcs.includes('RESUMING>STOP');
    const state = left ?? (loaded ? 'STOP' : 'RUNNING');
    expect(arcs).not.toContain('STOP>RUNNING');
    expect([destination.mdev.read('state'), destination.device.currentState.state]).toEqual([state, state.toLowerCase()]);
    expect(await contents(destination.device) === before).toBe(loaded);
    return told;
  };

  it.each(['pre-copy', 'stop', 'transfer', 'prepare'])('given up in phase %s', async (phase) => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    const abort = new Subject<void>();
    const told = await notMoved(source, destination, {
      plan: { abort },
      watch: (event) => {
        // In PRE_COPY when a round is over: before that the device may not be there yet.
        if (event.phase === phase && (phase !== 'pre-copy' || 'round' in event)) abort.next();
      },
    });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect(told.destination.error).toMatchObject({ code: 'VFIO_E_PEER' });
  });

  it('given up while the driver waits for an ack: what was begun ends first, then it is taken back', async () => {
    const abort = new Subject<void>();
    const letGo = new Subject<void>();
    const source = await serve(migration, (signal) => {
      if (signal.because !== 'signal' || source.mdev.number('waiters') === 0) return of(signal);
      queueMicrotask(() => {
        abort.next();
        letGo.next();
      });
      return letGo.pipe(take(1), map(() => signal));
    });
    const told = await notMoved(source, await serve(migration), { plan: { abort } });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_ABORTED' });
    expect(arcsIn(source.mdev.trace())).toEqual(['RUNNING>PRE_COPY', 'PRE_COPY>RUNNING']);
  });

  it.each(['PRE_COPY', 'STOP_COPY'])('the source fails on its way to %s', async (state) => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    source.mdev.write('fail_arc', state);
    const told = await notMoved(source, destination, {});
    const operation = `device_state ${state.toLowerCase().replace('_', '-')} at the source`;
    expect(told.source.error).toMatchObject({ device: source.device.name, operation });
    expect(told.destination.error).toMatchObject({ code: 'VFIO_E_PEER' });
  });

  it('the destination fails on its way to RESUMING: it stays as far as it came, and takes nothing', async () => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    destination.mdev.write('fail_arc', 'RESUMING');
    const told = await notMoved(source, destination, {}, 'STOP');
    expect(told.destination.error).toMatchObject({ device: destination.device.name, operation: 'device_state resuming at the destination' });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_PEER' });
    expect(arcsIn(source.mdev.trace())).toEqual([]);
  });

  it('the destination does not load: it is reset', async () => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    const told = await notMoved(source, destination, {
      watch: ({ phase }) => {
        if (phase === 'pre-copy') destination.mdev.write('fail_arc', 'STOP');
      },
    });
    expect(told.destination.error).toMatchObject({ device: destination.device.name, operation: 'device_state stop at the destination' });
    expect(told.source.error).toMatchObject({ code: 'VFIO_E_PEER' });
    expect(destination.mdev.trace().map(({ event }) => event)).toContain('reset');
  });

  it('the destination cannot run after COMMIT: it promises that it never will, and the source takes it back', async () => {
    const [source, destination] = [await serve(migration), await serve(migration)];
    const told = await notMoved(source, destination, {
      watch: ({ phase }) => {
        if (phase === 'commit') destination.mdev.write('fail_arc', migration === 1 ? 'RUNNING' : 'RUNNING_P2P');
      },
    });
    expect(told.source.records).toEqual(['begun', 'decided', 'taken-back']);
    expect([told.source.error, told.destination.error]).toMatchObject([{ code: 'VFIO_E_PEER' }, { operation: 'device_state running at the destination' }]);
  });
});
