import { catchError, concat, concatMap, defer, EMPTY, filter, from, ignoreElements, map, Observable, of, tap, type OperatorFunction } from 'rxjs';
import type { DevicePort, IrqHandle, RegionInfo } from '../../src/devices/port.js';
import { diffLayout, type RegionDiff } from '../../src/devices/protocol/layout-diff.js';
import type { RemapPlan, RemapSignal } from '../../src/devices/remap-batch.js';
import { VfioError } from '../../src/errors.js';
import { remapIrq, transition } from '../../src/streams/index.js';
import { alteredIrq, type Alter } from '../support/devices.js';
import { trueCast, type Cast } from './cast.js';
import type { Mutant } from './promise.js';

/** The true cast with one part played otherwise. */
function playing(change: Partial<Cast>): Cast {
  return { ...trueCast, ...change };
}

/** Diffs are changed on their way to `applyRemap`. */
function withDiffs(change: (diff: RegionDiff) => RegionDiff): Partial<Cast> {
  const changed: OperatorFunction<RemapPlan, RemapPlan> = map((plan) => ({ ...plan, diffs: plan.diffs.map(change) }));
  return { apply: (device) => (source) => source.pipe(changed, trueCast.apply(device)) };
}

/** The remap irq's handle is changed. */
function withIrq(change: (handle: IrqHandle) => Partial<IrqHandle>): Alter {
  return (port) => ({
    irq: (line, options) =>
      port.irq(line, options).pipe(
        map((handle) => alteredIrq(handle, change(handle))),
      ),
  });
}

/** Acks what a batch has read when it comes by, and lets it go on as if nothing had been read. */
function ackedOnTheWay<T extends RemapSignal>(): OperatorFunction<T, T> {
  return concatMap((batch) => concat(batch.channel.ack(batch.sumRead).pipe(ignoreElements()), of({ ...batch, sumRead: 0n })));
}

/** The first answer is good for ever. */
function cachedInfo(port: DevicePort): Partial<DevicePort> {
  const answers = new Map<number, RegionInfo>();
  return {
    regionInfo: (index) =>
      defer(() => {
        const known = answers.get(index);
        return known === undefined ? port.regionInfo(index).pipe(tap((info) => answers.set(index, info))) : of(known);
      }),
  };
}

/** Against P1. */
export const mappingMutants: readonly Mutant[] = [
  {
    what: 'diff compares with the last answer, not with what is mapped',
    cast: playing({
      diff: (device) => (source) => {
        const last = new Map<number, RegionInfo>();
        const before = (index: number) => {
          const info = last.get(index);
          return info === undefined ? device.region(index).mapped : { ...info, areas: info.mmappable ? info.areas : [] };
        };
        return source.pipe(
          map((batch) => {
            const diffs = [...batch.current.values()].map((layout) => diffLayout(before(layout.index), layout));
            for (const layout of batch.current.values()) last.set(layout.index, layout);
            return { ...batch, diffs };
          }),
        );
      },
    }),
    complaint: /not mapped, and nobody said so/,
  },
  {
    what: 'apply maps only the first of several areas',
    cast: playing(withDiffs((diff) => ({ ...diff, added: diff.added.slice(0, 1) }))),
    complaint: /not mapped, and nobody said so/,
  },
  { what: 're-query answers from a cache', cast: playing({ port: cachedInfo }), complaint: /is mapped and not offered|not mapped, and nobody said so/ },
];

/** A deadline that is none, ms: half an age of virtual time. */
const noneMs = 1e9;

/** Against P2, every wait ends. */
export const waitMutants: readonly Mutant[] = [
  {
    what: 'an operator swallows a batch, and neither batch nor transition has a deadline',
    cast: playing({
      remapIrq: (device) => remapIrq(device, { batchDeadlineMs: noneMs }),
      transition: (device, to) => transition(device, to, { deadlineMs: noneMs }),
      decode: (device) => (source) => source.pipe(filter(({ because }) => because !== 'after-transition'), trueCast.decode(device)),
    }),
    complaint: /after its deadline|never answered/,
  },
  {
    what: 'transition has no deadline',
    cast: playing({
      transition: (device, to) => device.writeState(to).pipe(map(({ state }) => ({ device: device.name, from: to, to: state, atNs: 0n, tookNs: 0n }))),
    }),
    complaint: /after its deadline/,
  },
  {
    what: 'the driver keeps a write that it should cancel or time out',
    cast: playing({
      driver: (port) => ({
        setState: (to) => new Observable((subscriber) => port.setState(to).subscribe({ next: (reply) => subscriber.next(reply), error: () => undefined, complete: () => subscriber.complete() })),
      }),
    }),
    complaint: /of \d+ writes of device_state only/,
  },
];

/** Against P2, no deadline decides. */
export const deadlineMutants: readonly Mutant[] = [
  { what: 'acks do not reach the driver', cast: playing({ port: withIrq(() => ({ ack: () => of(undefined) })) }), complaint: /a deadline decided/ },
  {
    what: 'the second signal in one count is not acked',
    cast: playing({ port: withIrq((handle) => ({ ack: () => handle.ack(1n) })) }),
    complaint: /a deadline decided/,
  },
];

/** Against P3. */
export const requeryMutants: readonly Mutant[] = [
  {
    what: 'decode drops the highest declared region',
    cast: playing({ decode: (device) => (source) => source.pipe(trueCast.decode(device), map((batch) => ({ ...batch, candidates: new Set([...batch.candidates].slice(0, -1)) }))) }),
    complaint: /was acked .* not asked since/,
  },
  { what: 're-query answers from a cache', cast: playing({ port: cachedInfo }), complaint: /was acked .* not asked since/ },
  {
    what: 'a batch is acked before its re-query',
    cast: playing({ decode: (device) => (source) => source.pipe(ackedOnTheWay(), trueCast.decode(device)) }),
    complaint: /was acked .* not asked since/,
  },
  {
    what: 'a query that failed counts as "nothing changed"',
    cast: playing({
      requery: (device) =>
        concatMap((batch) => {
          const current = new Map<number, RegionInfo>();
          const ask = (index: number) => new Observable<never>((subscriber) => {
            device.port.regionInfo(index).subscribe({ next: (info) => current.set(index, info), error: () => subscriber.complete(), complete: () => subscriber.complete() });
          });
          return concat(from(batch.candidates).pipe(concatMap(ask)), of({ ...batch, current }));
        }),
    }),
    complaint: /was acked .* not asked since/,
  },
];

/** Against P4. At the port, since `remapIrq` itself refuses an ack of more than was read. */
export const ackMutants: readonly Mutant[] = [
  {
    what: 'an ack is written whenever the irq is armed, whether or not something was read',
    cast: playing({ port: withIrq((handle) => ({ next: () => concat(handle.ack(1n).pipe(ignoreElements()), handle.next()) })) }),
    complaint: /after \d+ reads/,
  },
  {
    what: 'one more is acked than was read',
    cast: playing({ port: withIrq((handle) => ({ ack: (count) => handle.ack(count + 1n) })) }),
    complaint: /acked \d+ of \d+ that were read/,
  },
  {
    what: 'each ack is written twice',
    cast: playing({ port: withIrq((handle) => ({ ack: (count) => concat(handle.ack(count).pipe(ignoreElements()), handle.ack(count)) })) }),
    complaint: /after \d+ reads/,
  },
];

/** Against P5. */
export const revocationMutants: readonly Mutant[] = [
  {
    what: 'a batch is acked before it is applied',
    cast: playing({ apply: (device) => (source) => source.pipe(ackedOnTheWay(), trueCast.apply(device)) }),
    complaint: /still mapped|acked-while-mapped/,
  },
  { what: 'unmap does nothing and says that it did', cast: playing({ port: () => ({ unmap: () => of(undefined) }) }), complaint: /still mapped|acked-while-mapped/ },
  {
    what: 'only the first of several areas is unmapped',
    cast: playing(withDiffs((diff) => ({ ...diff, revoked: diff.revoked.slice(0, 1) }))),
    complaint: /still mapped|acked-while-mapped/,
  },
  {
    what: 'holders are not asked to let go',
    cast: playing({ holder: (holder) => ({ name: holder.name, release: () => EMPTY, regain: (pieces) => holder.regain(pieces) }) }),
    complaint: /stale-write/,
  },
];

/** Against P6. */
export const closeMutants: readonly Mutant[] = [
  { what: 'a pipeline that ends keeps its irq', cast: playing({ port: withIrq(() => ({ close: () => of(undefined) })) }), complaint: /its irq is still registered/ },
  {
    what: 'close forgets the mappings and the fd',
    cast: playing({ port: () => ({ close: () => undefined, released: EMPTY }) }),
    complaint: /at rest after closing, (opens|vmas) is/,
  },
  { what: 'close waits for the blocked write instead of freeing it', cast: playing({ port: closedWhenIdle }), complaint: /still blocked|still waits/ },
];

/** While a write of device_state is outstanding nobody disables the irq; the port is closed when no write of device_state is outstanding. */
function closedWhenIdle(port: DevicePort): Partial<DevicePort> {
  let outstanding = 0;
  let closing = false;
  return {
    ...withIrq((handle) => ({ close: () => (outstanding > 0 ? of(undefined) : handle.close()) }))(port),
    setState: (to) =>
      new Observable((subscriber) => {
        outstanding += 1;
        const returned = (): void => {
          outstanding -= 1;
          if (closing && outstanding === 0) port.close();
        };
        port.setState(to).pipe(tap({ complete: returned, error: returned })).subscribe(subscriber);
      }),
    close: () => {
      closing = true;
      if (outstanding === 0) port.close();
    },
  };
}

/** Against P7. */
export const oldUserMutants: readonly Mutant[] = [
  {
    what: 'a refusal for want of the irq is told as a device that is gone',
    cast: playing({
      transition: (device, to, options) => transition(device, to, options).pipe(
        catchError((error: unknown) => {
          if (!VfioError.is(error) || error.code !== 'VFIO_E_REFUSED') throw error;
          throw new VfioError('VFIO_E_NO_DEVICE', 'gone', { operation: error.operation, device: device.name });
        }),
      ),
    }),
    complaint: /refused for want of the irq/,
  },
  { what: 'a pipeline that ends keeps its irq', cast: playing({ port: withIrq(() => ({ close: () => of(undefined) })) }), complaint: /disabled .* and a write still waits/ },
];

/** Against P8. */
export const pageMutants: readonly Mutant[] = [
  {
    what: 'a batch is about the regions of every page',
    cast: playing({
      decode: (device) => (source) => source.pipe(trueCast.decode(device), map((batch) => ({ ...batch, candidates: new Set([...batch.candidates, ...device.regions.keys()]) }))),
    }),
    complaint: /was about region/,
  },
  { what: 'the ack of one page is written on another', cast: playing({ port: crossedAcks }), complaint: /of \d+ that were read there/ },
];

/** Each irq that is registered acks on the one that was registered before it. */
function crossedAcks(port: DevicePort): Partial<DevicePort> {
  let before: IrqHandle | undefined;
  return {
    irq: (line, options) => port.irq(line, options).pipe(
      map((handle) => {
        const other = before?.line.index === line.index ? undefined : before;
        before = handle;
        return alteredIrq(handle, other === undefined ? {} : { ack: (count) => other.ack(count) });
      }),
    ),
  };
}

/** A user that writes device_state whether or not an ack is still on its way. */
export const withoutIdleRule: Cast = playing({
  remapIrq: (device, wishes) => {
    const claim = device.claimRemap.bind(device);
    device.claimRemap = (session) => claim({
      get agreement() { return session.agreement; },
      atRest: () => EMPTY,
      requeryAll: () => session.requeryAll(),
      deadlinePassed: () => { session.deadlinePassed(); },
      deviceClosed: () => { session.deviceClosed(); },
    });
    return remapIrq(device, wishes);
  },
});
