import { catchError, concat, concatMap, defer, EMPTY, filter, ignoreElements, map, NEVER, observeOn, of, ReplaySubject, shareReplay, Subject, subscribeOn, take, tap, throwError, toArray, type Observable } from 'rxjs';
import { VfioError, type VfioErrorCode } from '../../../errors.js';
import type { Call, DataChannel, DevicePort, IrqHandle, IrqSignal, Mapping, RegionInfo } from '../../../devices/port.js';
import { withChanges } from '../with-changes.js';
import { sampleFace as face } from './harness.js';

/** A port that breaks a rule on purpose: a suite that cannot fail proves nothing. */
export interface BrokenPort {
  readonly name: string;
  /** The rules that fail, and no other: the first is the one that it is made for, the others fall with it. */
  readonly breaks: readonly string[];
  /** What the first says then: a check that fails for another reason has noticed nothing. */
  readonly because: string;
  /** Puts the fault around a sound port. */
  readonly spoil: (port: DevicePort) => DevicePort;
}

/** The port with every irq handle that it gives out replaced. */
function withIrqs(port: DevicePort, change: (handle: IrqHandle) => Partial<IrqHandle>): DevicePort {
  return withChanges(port, {
    irq: (line, options) => port.irq(line, options).pipe(map((handle) => withChanges(handle, change(handle)))),
  });
}

const isCode = (error: unknown, code: VfioErrorCode): boolean => VfioError.is(error) && error.code === code;

/** What a call would have failed with, by its code, turned into an answer. */
function forgiven<T>(call: Call<T>, code: VfioErrorCode, answer: () => T): Call<T> {
  return call.pipe(catchError((error: unknown) => (isCode(error, code) ? of(answer()) : throwError(() => error))));
}

/** A call whose error of one code is another. */
function renamed<T>(call: Call<T>, code: VfioErrorCode, other: () => unknown): Call<T> {
  return call.pipe(catchError((error: unknown) => throwError(() => (isCode(error, code) ? other() : error))));
}

function cachedInfo(port: DevicePort): (index: number) => Observable<RegionInfo> {
  const known = new Map<number, RegionInfo>();
  return (index) => defer(() => {
    const info = known.get(index);
    return info === undefined ? port.regionInfo(index).pipe(tap((answer) => known.set(index, answer))) : of({ ...info });
  });
}

const plainInfo = (index: number): RegionInfo => ({ index, flags: 3, readable: true, writable: true, mmappable: false, size: 4096, fileOffset: 0, areas: [], msixMappable: false });

/** One for each rule, and for some rules more: `softwarePortHarness({ around: spoil })` shows them to the suite. */
export const brokenPorts: readonly BrokenPort[] = [
  {
    name: 'maps when asked for the call', breaks: ['PORT-1.1', 'PORT-1.2'],
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
    name: 'gives every subscriber the first answer', breaks: ['PORT-1.2'],
    because: 'the second subscription should be another',
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(shareReplay({ bufferSize: 1, refCount: false })) }),
  },
  {
    name: 'answers a now call in a later turn', breaks: ['PORT-2.1'],
    because: 'irqInfo should answer inside subscribe()',
    spoil: (port) => withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(observeOn(port.clock.scheduler)) }),
  },
  {
    name: 'caches region info', breaks: ['PORT-3.1', 'PORT-1.2'],
    because: 'a revoked region should offer nothing',
    spoil: (port) => withChanges(port, { regionInfo: cachedInfo(port) }),
  },
  {
    name: 'maps what is not offered', breaks: ['PORT-4.1'],
    because: 'mapping a region without mmap should have failed',
    spoil: (port) => withChanges(port, { map: (region, area) => forgiven(port.map(region, area), 'VFIO_E_RANGE', () => ({ region, area, memory: new ArrayBuffer(area.size) })) }),
  },
  {
    name: 'maps a copy', breaks: ['PORT-4.2', 'PORT-5.1', 'PORT-5.2'],
    because: 'a trapped read should see what was written',
    spoil(port) {
      const originals = new WeakMap<object, Mapping>();
      const original = <T extends object>(copy: T): T | Mapping => originals.get(copy) ?? copy;
      return withChanges(port, {
        map: (region, area) => port.map(region, area).pipe(map((mapping) => {
          const copy = { ...mapping, memory: mapping.memory.slice(0) };
          originals.set(copy, mapping);
          return copy;
        })),
        unmap: (mapping, area) => port.unmap(original(mapping), area),
        dmaMap: (request) => port.dmaMap({ ...request, source: original(request.source) }),
      });
    },
  },
  {
    name: 'forgets to unmap', breaks: ['PORT-5.1', 'PORT-1.2', 'PORT-5.2', 'PORT-5.3', 'PORT-7.1', 'PORT-12.3', 'PORT-13.1'],
    because: 'the driver should see nothing mapped',
    spoil: (port) => withChanges(port, { unmap: () => port.info().pipe(map(() => undefined)) }),
  },
  {
    name: 'unmaps all where a part was meant', breaks: ['PORT-5.2', 'PORT-12.3', 'PORT-13.1'],
    because: 'a hole should leave two mappings',
    spoil: (port) => withChanges(port, { unmap: (mapping) => port.unmap(mapping) }),
  },
  {
    name: 'refuses to unmap what is not offered any more', breaks: ['PORT-5.3', 'PORT-7.1'],
    because: 'munmap: not offered',
    spoil: (port) => withChanges(port, { unmap: (mapping, area) => concat(port.map(mapping.region, { offset: 0x800, size: 1 }).pipe(
      catchError(() => port.regionInfo(mapping.region)),
      map((info) => { if ('areas' in info && info.areas.length === 0) throw new VfioError('VFIO_E_RANGE', 'not offered', { operation: 'munmap' }); }),
      ignoreElements(),
    ), port.unmap(mapping, area)) }),
  },
  {
    name: 'gives a line to whoever comes last', breaks: ['PORT-6.4'],
    because: 'a second registration of the same line should have failed',
    spoil: (port) => {
      let last: IrqHandle | undefined;
      return withChanges(port, {
        irq: (line, options) => concat(defer(() => (last?.line.index === line.index ? last.close() : EMPTY)).pipe(ignoreElements()), defer(() => port.irq(line, options)).pipe(tap((handle) => { last = handle; }))),
      });
    },
  },
  {
    name: 'is always armed', breaks: ['PORT-6.1', 'PORT-6.2', 'PORT-6.3', 'PORT-11.1', 'PORT-11.2', 'PORT-15.1'],
    because: 'one delivery of 2, it was 1',
    spoil: (port) => withIrqs(port, (handle) => {
      const arrived: Observable<IrqSignal>[] = [];
      const waiting: Subject<Observable<IrqSignal>>[] = [];
      const arm = (): void => {
        const tell = (what: Observable<IrqSignal>): void => {
          const first = waiting.shift();
          if (first === undefined) arrived.push(what);
          else first.next(what);
        };
        handle.next().subscribe({ next: (signal) => { tell(of(signal)); arm(); }, error: (error: unknown) => { tell(throwError(() => error)); } });
      };
      arm();
      return {
        next: () => defer(() => {
          const come = arrived.shift();
          if (come !== undefined) return come;
          const later = new Subject<Observable<IrqSignal>>();
          waiting.push(later);
          return later.pipe(take(1), concatMap((what) => what));
        }),
      };
    }),
  },
  {
    name: 'stays armed after unsubscribe', breaks: ['PORT-6.2', 'PORT-15.1'],
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
    name: 'lets a second subscriber wait in silence', breaks: ['PORT-6.3'],
    because: 'a second wait for the same irq did not come',
    spoil: (port) => withIrqs(port, (handle) => ({ next: () => handle.next().pipe(catchError((error: unknown) => (isCode(error, 'VFIO_E_BUSY') ? NEVER : throwError(() => error)))) })),
  },
  {
    name: 'queues accesses behind the write of device_state', breaks: ['PORT-7.1'],
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
    name: 'takes a failed write for success', breaks: ['PORT-7.2'],
    because: 'should end with VFIO_E_ACK_TIMEOUT: success',
    spoil: (port) => withChanges(port, { setState: (to) => forgiven(port.setState(to), 'VFIO_E_ACK_TIMEOUT', () => ({ state: to })) }),
  },
  {
    name: 'asks the driver for an arc that is none', breaks: ['PORT-7.3'],
    because: 'should have failed with VFIO_E_ARC',
    spoil: (port) => withChanges(port, { setState: (to) => renamed(port.setState(to), 'VFIO_E_ARC', () => new VfioError('VFIO_E_IO', 'refused', { operation: 'device_state', errno: 'EINVAL' })) }),
  },
  {
    name: 'closes an irq without disabling it', breaks: ['PORT-8.1'],
    because: 'should end with VFIO_E_CANCELED',
    spoil: (port) => withIrqs(port, (handle) => (handle.line.index === face.remap.index ? { close: () => of(undefined) } : {})),
  },
  {
    name: 'leaks irqs and mappings at close', breaks: ['PORT-9.1', 'PORT-9.2', 'PORT-9.3', 'PORT-9.4', 'PORT-9.5', 'PORT-13.2'],
    because: 'nothing should be left: opens 1',
    spoil: (port) => withChanges(port, { close: () => undefined, released: of({ what: 'nothing was done' }), [Symbol.asyncDispose]: () => Promise.resolve() }),
  },
  {
    name: 'answers after close', breaks: ['PORT-9.2'],
    because: 'regionInfo after close should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => forgiven(port.regionInfo(index), 'VFIO_E_CLOSED', () => plainInfo(index)) }),
  },
  {
    name: 'forgets whoever waits for an irq', breaks: ['PORT-9.3', 'PORT-8.1', 'PORT-9.2'],
    because: 'next() should end with VFIO_E_CLOSED',
    spoil: (port) => withIrqs(port, (handle) => ({ next: () => handle.next().pipe(catchError((error: unknown) => (isCode(error, 'VFIO_E_CLOSED') ? NEVER : throwError(() => error)))) })),
  },
  {
    name: 'closes only once the blocked write has returned', breaks: ['PORT-9.4'],
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
    name: 'interrupts the driver when a write is detached', breaks: ['PORT-9.5'],
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
    name: 'fails with an error of no kind', breaks: ['PORT-10.1'],
    because: 'undefined is not an irq',
    spoil: (port) => withChanges(port, { irqInfo: (index) => renamed(port.irqInfo(index), 'VFIO_E_NO_IRQ', () => new TypeError('undefined is not an irq')) }),
  },
  {
    name: 'takes a failed query for no change', breaks: ['PORT-10.2'],
    because: 'a query that the driver fails should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => forgiven(port.regionInfo(index), 'VFIO_E_IO', () => plainInfo(index)) }),
  },
  {
    name: 'believes what it is told', breaks: ['PORT-10.3'],
    because: 'an answer that contradicts itself should have failed',
    spoil: (port) => withChanges(port, { regionInfo: (index) => forgiven(port.regionInfo(index), 'VFIO_E_PROTOCOL', () => plainInfo(index)) }),
  },
  {
    name: 'delivers what was read', breaks: ['PORT-11.1'],
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
    name: 'writes 1 for 0', breaks: ['PORT-11.2'],
    because: 'an ack of 0 should change no count',
    spoil: (port) => withIrqs(port, (handle) => ({ ack: (count) => handle.ack(count === 0n ? 1n : count) })),
  },
  {
    name: 'keeps a range in the IOMMU', breaks: ['PORT-12.1', 'PORT-12.2', 'PORT-12.4', 'PORT-13.1', 'PORT-13.2'],
    because: 'both entries should be free again',
    spoil: (port) => withChanges(port, { dmaUnmap: () => of(3 * port.traits.pageSize) }),
  },
  {
    name: 'passes on what the kernel says of an overlap', breaks: ['PORT-12.2'],
    because: 'a range that overlaps should have failed with VFIO_E_BUSY',
    spoil: (port) => withChanges(port, { dmaMap: (request) => renamed(port.dmaMap(request), 'VFIO_E_BUSY', () => new VfioError('VFIO_E_IO', 'refused', { operation: 'VFIO_IOMMU_MAP_DMA', errno: 'EEXIST' })) }),
  },
  {
    name: 'gives the IOMMU what is not mapped', breaks: ['PORT-12.3'],
    because: 'an area with a hole should have failed',
    spoil: (port) => withChanges(port, { dmaMap: (request) => ('region' in request.source ? forgiven(port.dmaMap(request), 'VFIO_E_RANGE', () => request) : port.dmaMap(request)) }),
  },
  {
    name: 'lets an unmap overtake the map', breaks: ['PORT-12.4'],
    because: 'the range should have gone after it came',
    spoil: (port) => withChanges(port, { dmaMap: (request) => defer(() => port.dmaMap(request)).pipe(subscribeOn(port.clock.scheduler, 5)) }),
  },
  {
    name: 'unmaps what is in the IOMMU', breaks: ['PORT-13.1'],
    because: 'unmapping an area that is in the IOMMU should have failed',
    spoil: (port) => withChanges(port, { unmap: (mapping, area) => forgiven(port.unmap(mapping, area), 'VFIO_E_BUSY', () => undefined) }),
  },
  {
    name: 'leaves its ranges in the IOMMU at close', breaks: ['PORT-13.2'],
    because: 'both ranges should be reported',
    spoil: (port) => withChanges(port, { released: port.released.pipe(filter(({ what }) => !what.includes('IOMMU'))) }),
  },
  {
    name: 'takes for done what the irq does not take', breaks: ['PORT-14.1'],
    because: 'a mask of MSI should have failed',
    spoil: (port) => withIrqs(port, (handle) => ({ mask: () => forgiven(handle.mask(), 'VFIO_E_UNSUPPORTED', () => undefined) })),
  },
  {
    name: 'keeps loopbacks to itself', breaks: ['PORT-14.2'],
    because: 'the signal of the loopback did not come',
    spoil: (port) => withIrqs(port, () => ({ trigger: () => port.info().pipe(map(() => undefined)) })),
  },
  {
    name: 'registers one vector after the other', breaks: ['PORT-14.3'],
    because: 'neither should have registered anything, there are 3',
    spoil: (port) => withChanges(port, { irqs: (index, vectors, options) => {
      if (vectors.length === 0 || vectors.includes(0)) return port.irqs(index, vectors, options);
      return concat(...vectors.map((vector) => port.irq({ index, vector }, options))).pipe(toArray());
    } }),
  },
  {
    name: 'does not look who else is enabled', breaks: ['PORT-14.4'],
    because: 'MSI beside INTx should have failed',
    spoil: (port) => {
      let last: IrqHandle | undefined;
      return withChanges(port, {
        irq: (line, options) => port.irq(line, options).pipe(
          tap((handle) => { last = handle; }),
          catchError((error: unknown) => (last !== undefined && last.line.index !== line.index && isCode(error, 'VFIO_E_BUSY') ? of(last) : throwError(() => error))),
        ),
      });
    },
  },
  {
    name: 'unmasks by itself', breaks: ['PORT-15.1'],
    because: 'a masked irq should not signal',
    spoil: (port) => withIrqs(port, (handle) => (handle.line.index === face.intx.index ? { next: () => handle.next().pipe(concatMap((signal) => handle.unmask().pipe(map(() => signal)))) } : {})),
  },
  {
    name: 'keeps the writes of the ack eventfd', breaks: ['PORT-15.2'],
    because: 'the signal of INTx did not come',
    spoil: (port) => withIrqs(port, (handle) => (handle.line.index === face.intx.index ? { ack: () => of(undefined) } : {})),
  },
  {
    name: 'does not count what was read', breaks: ['PORT-16.1'],
    because: '16 bytes were read of 16, then there were 16 and 0',
    spoil: (port) => {
      const forgetful = (data: DataChannel): DataChannel => {
        const first = data.precopy().pipe(shareReplay({ bufferSize: 1, refCount: false }));
        return withChanges(data, { precopy: () => first });
      };
      return withChanges(port, { setState: (to) => port.setState(to).pipe(map((reply) => ({ ...reply, ...(reply.data === undefined ? {} : { data: forgetful(reply.data) }) }))) });
    },
  },
  {
    name: 'keeps any log', breaks: ['PORT-17.1'],
    because: 'a log about nothing should have failed',
    spoil: (port) => withChanges(port, { dmaLogging: { start: (request) => forgiven(port.dmaLogging.start(request), 'VFIO_E_RANGE', () => request.pageSize), report: (part) => port.dmaLogging.report(part), stop: () => port.dmaLogging.stop() } }),
  },
];
