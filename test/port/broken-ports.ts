import { asyncScheduler, catchError, concat, concatMap, defer, EMPTY, filter, ignoreElements, map, NEVER, observeOn, of, ReplaySubject, shareReplay, subscribeOn, tap, throwError, toArray, type Observable } from 'rxjs';
import { VfioError } from '../../src/errors.js';
import { alteredIrq } from '../support/devices.js';
import type { DevicePort, IrqHandle, IrqSignal, Mapping, RegionInfo } from '../../src/devices/port.js';

/** A way to break a port, and the check that must notice. */
export interface BrokenPort {
  readonly name: string;
  readonly rule: string;
  /** The claim of the check that turns red. */
  readonly noticedBy: string;
  /** What it says then: a check that fails for another reason has noticed nothing. */
  readonly because: string;
  readonly spoil: (port: DevicePort) => DevicePort;
}

/** The port with some of its members replaced. */
function withChanges(port: DevicePort, changes: Partial<DevicePort>): DevicePort {
  return new Proxy(port, {
    get(target, key) {
      if (key in changes) return Reflect.get(changes, key) as unknown;
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** The port with every irq handle that it gives out replaced. */
function withIrqs(port: DevicePort, change: (handle: IrqHandle) => Partial<IrqHandle>): DevicePort {
  return withChanges(port, {
    irq: (line, options) => port.irq(line, options).pipe(map((handle) => alteredIrq(handle, change(handle)))),
  });
}

const isCode = (error: unknown, code: string): boolean => VfioError.is(error) && error.code === code;

function cachedInfo(port: DevicePort): (index: number) => Observable<RegionInfo> {
  const known = new Map<number, RegionInfo>();
  return (index) => defer(() => {
    const info = known.get(index);
    return info === undefined ? port.regionInfo(index).pipe(tap((answer) => known.set(index, answer))) : of(answerOf(info));
  });
}

const answerOf = (info: RegionInfo): RegionInfo => ({ ...info });

const plainInfo = (index: number): RegionInfo => ({ index, flags: 3, readable: true, writable: true, mmappable: false, size: 4096, fileOffset: 0, areas: [], msixMappable: false });

export const brokenPorts: readonly BrokenPort[] = [
  {
    name: 'maps when asked for the call', rule: 'PORT-1', noticedBy: 'nothing happens before subscribe',
    because: 'the driver saw mmap of calls that nobody subscribed',
    spoil: (port) => withChanges(port, {
      map(region, area) {
        const answer = new ReplaySubject<Mapping>(1);
        port.map(region, area).subscribe(answer);
        return answer;
      },
    }),
  },
  {
    name: 'gives every subscriber the first answer', rule: 'PORT-1', noticedBy: 'each subscription is one call',
    because: 'the second subscription should be another',
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(shareReplay({ bufferSize: 1, refCount: false })) }),
  },
  {
    name: 'answers a now call in a later turn', rule: 'PORT-2', noticedBy: 'a call marked now answers inside subscribe()',
    because: 'irqInfo should answer inside subscribe()',
    spoil: (port) => withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(observeOn(asyncScheduler)) }),
  },
  {
    name: 'caches region info', rule: 'PORT-3', noticedBy: 'regionInfo is the layout of this instant',
    because: 'a revoked region should offer nothing',
    spoil: (port) => withChanges(port, { regionInfo: cachedInfo(port) }),
  },
  {
    name: 'maps what is not offered', rule: 'PORT-4', noticedBy: 'map takes a part of an offered area, and nothing else',
    because: 'mapping a region without mmap should have failed',
    spoil: (port) => withChanges(port, { map: (region, area) => port.map(region, area).pipe(catchError(() => of({ region, area, memory: new ArrayBuffer(area.size) }))) }),
  },
  {
    name: 'maps a copy', rule: 'PORT-4', noticedBy: "a mapping shows the device's memory, both ways",
    because: 'a trapped read should see what was written',
    spoil: (port) => withChanges(port, { map: (region, area) => port.map(region, area).pipe(map((mapping) => ({ ...mapping, memory: mapping.memory.slice(0) }))) }),
  },
  {
    name: 'forgets to unmap', rule: 'PORT-5', noticedBy: 'when unmap completes the driver sees no mapping, and a stale view does not reach the device',
    because: 'the driver should see nothing mapped',
    spoil: (port) => withChanges(port, { unmap: () => of(undefined) }),
  },
  {
    name: 'unmaps all where a part was meant', rule: 'PORT-5', noticedBy: 'unmap of a part takes that part alone',
    because: 'a hole should leave two mappings',
    spoil: (port) => withChanges(port, { unmap: (mapping) => port.unmap(mapping) }),
  },
  {
    name: 'refuses to unmap what is not offered any more', rule: 'PORT-5', noticedBy: 'an area that was revoked can be unmapped, and mapped again once it is restored',
    because: 'munmap: not offered',
    spoil: (port) => withChanges(port, { unmap: (mapping, area) => concat(port.map(mapping.region, { offset: 0x800, size: 1 }).pipe(
      catchError(() => port.regionInfo(mapping.region)),
      map((info) => { if ('areas' in info && info.areas.length === 0) throw new VfioError('VFIO_E_RANGE', 'not offered', { operation: 'munmap' }); }),
      ignoreElements(),
    ), port.unmap(mapping, area)) }),
  },
  {
    name: 'gives a line to whoever comes last', rule: 'PORT-6', noticedBy: 'a line has one handle at a time',
    because: 'a second registration of the same line should have failed',
    spoil: (port) => {
      let last: IrqHandle | undefined;
      return withChanges(port, {
        irq: (line, options) => concat(defer(() => last?.close() ?? EMPTY).pipe(ignoreElements()), defer(() => port.irq(line, options)).pipe(tap((handle) => { last = handle; }))),
      });
    },
  },
  {
    name: 'is always armed', rule: 'PORT-6', noticedBy: 'what comes while the irq is not armed stays in the eventfd, and adds',
    because: 'one delivery of 2, it was 1',
    spoil: (port) => withIrqs(port, (handle) => {
      const arrived: IrqSignal[] = [];
      const waiting: ((signal: IrqSignal) => void)[] = [];
      const arm = (): void => {
        handle.next().subscribe({
          next: (signal) => { const first = waiting.shift(); if (first === undefined) arrived.push(signal); else first(signal); arm(); },
          error: () => undefined,
        });
      };
      arm();
      return {
        next: () => defer(() => {
          const signal = arrived.shift();
          if (signal !== undefined) return of(signal);
          const later = new ReplaySubject<IrqSignal>(1);
          waiting.push((one) => { later.next(one); later.complete(); });
          return later;
        }),
      };
    }),
  },
  {
    name: 'stays armed after unsubscribe', rule: 'PORT-6', noticedBy: 'an irq that is waited for delivers once, and unsubscribing disarms it',
    because: 'the signal did not come',
    spoil: (port) => withIrqs(port, (handle) => ({
      next: () => defer(() => {
        const shared = new ReplaySubject<IrqSignal>(1);
        handle.next().subscribe(shared);
        return shared;
      }),
    })),
  },
  {
    name: 'lets a second subscriber wait in silence', rule: 'PORT-6', noticedBy: 'one waits for an irq at a time',
    because: 'a second wait for the same irq did not come',
    spoil: (port) => withIrqs(port, (handle) => ({ next: () => handle.next().pipe(catchError((error: unknown) => (isCode(error, 'VFIO_E_BUSY') ? NEVER : throwError(() => error)))) })),
  },
  {
    name: 'queues accesses behind the write of device_state', rule: 'PORT-7', noticedBy: 'now calls, trapped accesses and the ack go on while setState is outstanding',
    because: 'a trapped write did not come',
    spoil(port) {
      let outstanding: Observable<unknown> = EMPTY;
      return withChanges(port, {
        setState: (to) => defer(() => {
          const reply = new ReplaySubject<{ readonly state: typeof to }>(1);
          port.setState(to).subscribe(reply);
          outstanding = reply.pipe(ignoreElements(), catchError(() => EMPTY));
          return reply;
        }),
        access: (request) => concat(outstanding.pipe(ignoreElements()), port.access(request)),
      });
    },
  },
  {
    name: 'takes a failed write for success', rule: 'PORT-7', noticedBy: 'a write that nobody acks ends by the timeout of the driver, with the state as before',
    because: 'should end with VFIO_E_ACK_TIMEOUT: success',
    spoil: (port) => withChanges(port, { setState: (to) => port.setState(to).pipe(catchError(() => of({ state: to }))) }),
  },
  {
    name: 'asks the driver for an arc that is none', rule: 'PORT-7', noticedBy: 'a driver whose remap irq is not registered refuses, and the port refuses what has no arc',
    because: 'should have failed with VFIO_E_ARC',
    spoil: (port) => withChanges(port, { setState: (to) => port.setState(to).pipe(catchError((error: unknown) => throwError(() => (isCode(error, 'VFIO_E_ARC') ? new VfioError('VFIO_E_IO', 'refused', { operation: 'device_state', errno: 'EINVAL' }) : error)))) }),
  },
  {
    name: 'closes an irq without disabling it', rule: 'PORT-8', noticedBy: 'closing the irq frees a setState that waits for its ack',
    because: 'should end with VFIO_E_CANCELED',
    spoil: (port) => withIrqs(port, () => ({ close: () => of(undefined) })),
  },
  {
    name: 'leaks irqs and mappings at close', rule: 'PORT-9', noticedBy: 'close takes away irqs, mappings and the device, and released says so',
    because: 'nothing should be left: opens 1',
    spoil: (port) => withChanges(port, { close: () => undefined, released: of({ what: 'nothing was done' }), [Symbol.asyncDispose]: () => Promise.resolve() }),
  },
  {
    name: 'answers after close', rule: 'PORT-9', noticedBy: 'after close every call fails with VFIO_E_CLOSED',
    because: 'regionInfo after close should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(catchError((error: unknown) => (isCode(error, 'VFIO_E_CLOSED') ? of(plainInfo(index)) : throwError(() => error)))) }),
  },
  {
    name: 'forgets whoever waits for an irq', rule: 'PORT-9', noticedBy: 'close frees whoever waits for an irq',
    because: 'next() should end with VFIO_E_CLOSED',
    spoil: (port) => withIrqs(port, (handle) => ({ next: () => handle.next().pipe(catchError(() => NEVER)) })),
  },
  {
    name: 'closes only once the blocked write has returned', rule: 'PORT-9', noticedBy: 'close frees a blocked setState, and nothing is left when released completes',
    because: 'should end with VFIO_E_CANCELED',
    spoil(port) {
      let outstanding: Observable<unknown> = EMPTY;
      return withChanges(port, {
        setState: (to) => defer(() => {
          const reply = new ReplaySubject<{ readonly state: typeof to }>(1);
          port.setState(to).subscribe(reply);
          outstanding = reply.pipe(catchError(() => EMPTY));
          return reply;
        }),
        close: () => { outstanding.subscribe({ error: () => undefined, complete: () => { port.close(); } }); },
      });
    },
  },
  {
    name: 'interrupts the driver when a write is detached', rule: 'PORT-9', noticedBy: 'a detached setState is waited for, and its data_fd does not outlive the port',
    because: 'unsubscribing should not interrupt the driver',
    spoil(port) {
      let remap: IrqHandle | undefined;
      const disable = (): void => { remap?.close().subscribe({ error: () => undefined }); };
      return withChanges(port, {
        irq: (line, options) => port.irq(line, options).pipe(tap((handle) => { remap = handle; })),
        setState: (to) => defer(() => port.setState(to).pipe(tap({ unsubscribe: disable }))),
      });
    },
  },
  {
    name: 'fails with an error of no kind', rule: 'PORT-10', noticedBy: 'an index that is not there is a typed error',
    because: 'undefined is not an irq',
    spoil: (port) => withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(catchError(() => throwError(() => new TypeError('undefined is not an irq')))) }),
  },
  {
    name: 'takes a failed query for no change', rule: 'PORT-10', noticedBy: 'a query that fails says which, and the next one asks again',
    because: 'a query that the driver fails should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(catchError(() => of(plainInfo(index)))) }),
  },
  {
    name: 'believes what it is told', rule: 'PORT-10', noticedBy: 'a hostile answer is VFIO_E_PROTOCOL',
    because: 'an answer that contradicts itself should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(catchError((error: unknown) => (isCode(error, 'VFIO_E_PROTOCOL') ? of(plainInfo(index)) : throwError(() => error)))) }),
  },
  {
    name: 'delivers what was read', rule: 'PORT-11', noticedBy: 'readNow takes what rests in the eventfd, and no next() delivers it',
    because: 'what was read should not be delivered, the delivery was 3',
    spoil: (port) => withIrqs(port, (handle) => {
      let read = 0n;
      return {
        readNow: () => handle.readNow().pipe(tap((count) => { read = count ?? read; })),
        next: () => handle.next().pipe(map((signal) => ({ ...signal, count: signal.count + read }))),
      };
    }),
  },
  {
    name: 'writes 1 for 0', rule: 'PORT-11', noticedBy: 'without an ack eventfd an ack goes to the trigger eventfd: 0 changes no count, all else comes back',
    because: 'an ack of 0 should change no count',
    spoil: (port) => withIrqs(port, (handle) => ({ ack: (count) => handle.ack(count === 0n ? 1n : count) })),
  },
  {
    name: 'keeps a range in the IOMMU', rule: 'PORT-12', noticedBy: 'a range enters and leaves the IOMMU whole, and takes an entry meanwhile',
    because: 'both entries should be free again',
    spoil: (port) => withChanges(port, { dmaUnmap: () => of(3 * port.traits.pageSize) }),
  },
  {
    name: 'passes on what the kernel says of an overlap', rule: 'PORT-12', noticedBy: 'what overlaps, is no page, or lies outside is refused before the kernel is asked',
    because: 'a range that overlaps should have failed with VFIO_E_BUSY',
    spoil: (port) => withChanges(port, { dmaMap: (request) => port.dmaMap(request).pipe(catchError(() => throwError(() => new VfioError('VFIO_E_IO', 'refused', { operation: 'VFIO_IOMMU_MAP_DMA', errno: 'EEXIST' })))) }),
  },
  {
    name: 'gives the IOMMU what is not mapped', rule: 'PORT-12', noticedBy: 'an area enters the IOMMU only where it is mapped',
    because: 'an area with a hole should have failed',
    spoil: (port) => withChanges(port, { dmaMap: (request) => port.dmaMap(request).pipe(catchError(() => of({ iova: request.iova, size: request.size }))) }),
  },
  {
    name: 'lets an unmap overtake the map', rule: 'PORT-12', noticedBy: 'an unmap that is asked for at once comes after the map, and limits go on while setState is outstanding',
    because: 'the range should have gone after it came',
    spoil: (port) => withChanges(port, { dmaMap: (request) => defer(() => port.dmaMap(request)).pipe(subscribeOn(asyncScheduler, 5)) }),
  },
  {
    name: 'unmaps what is in the IOMMU', rule: 'PORT-13', noticedBy: 'what is in the IOMMU is neither unmapped nor freed',
    because: 'unmapping an area that is in the IOMMU should have failed',
    spoil: (port) => withChanges(port, { unmap: (mapping, area) => port.unmap(mapping, area).pipe(catchError(() => of(undefined))) }),
  },
  {
    name: 'leaves its ranges in the IOMMU at close', rule: 'PORT-13', noticedBy: 'close takes the ranges of this device out of the IOMMU before its areas',
    because: 'both ranges should be reported',
    spoil: (port) => withChanges(port, { released: port.released.pipe(filter(({ what }) => !what.includes('IOMMU'))) }),
  },
  {
    name: 'takes for done what the irq does not take', rule: 'PORT-14', noticedBy: 'what an irq does not take is refused, and the driver is not asked',
    because: 'a mask of MSI should have failed',
    spoil: (port) => withIrqs(port, () => ({ mask: () => of(undefined) })),
  },
  {
    name: 'keeps loopbacks to itself', rule: 'PORT-14', noticedBy: 'a loopback reaches the user as a signal would',
    because: 'the signal of the loopback did not come',
    spoil: (port) => withIrqs(port, () => ({ trigger: () => of(undefined) })),
  },
  {
    name: 'registers one vector after the other', rule: 'PORT-14', noticedBy: 'irqs registers all its vectors or none, each with a handle',
    because: 'neither should have registered anything, there are 3',
    spoil: (port) => withChanges(port, { irqs: (index, vectors, options) => {
      if (vectors.includes(0)) return port.irqs(index, vectors, options);
      return concat(...vectors.map((vector) => port.irq({ index, vector }, options))).pipe(toArray());
    } }),
  },
  {
    name: 'does not look who else is enabled', rule: 'PORT-14', noticedBy: 'INTx and MSI exclude each other',
    because: 'MSI beside INTx should have failed',
    spoil: (port) => {
      let last: IrqHandle | undefined;
      return withChanges(port, {
        irq: (line, options) => port.irq(line, options).pipe(
          tap((handle) => { last = handle; }),
          catchError((error: unknown) => (last !== undefined && isCode(error, 'VFIO_E_BUSY') ? of(last) : throwError(() => error))),
        ),
      });
    },
  },
  {
    name: 'unmasks by itself', rule: 'PORT-15', noticedBy: 'an automasked irq signals once, and again when it is unmasked by call while its line is up',
    because: 'a masked irq should not signal',
    spoil: (port) => withIrqs(port, (handle) => ({ next: () => handle.next().pipe(concatMap((signal) => handle.unmask().pipe(map(() => signal)))) })),
  },
  {
    name: 'keeps the writes of the ack eventfd', rule: 'PORT-15', noticedBy: 'each write of its ack eventfd unmasks an automasked irq',
    because: 'the signal of INTx did not come',
    spoil: (port) => withIrqs(port, () => ({ ack: () => of(undefined) })),
  },
];
