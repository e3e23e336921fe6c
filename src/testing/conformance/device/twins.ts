import { catchError, concat, concatMap, defer, EMPTY, endWith, ignoreElements, map, of, ReplaySubject, tap, throwError, type Observable } from 'rxjs';
import type { Call, DevicePort, IrqHandle, State } from '../../../devices/port.js';
import type { SoftwareVendorDriver } from '../../../devices/software/driver-face.js';
import type { SoftwareDeviceOptions } from '../../../devices/software/options.js';
import { VfioError } from '../../../errors.js';
import { sampleFace as face } from '../port/harness.js';
import { withChanges } from '../with-changes.js';

/** A device that breaks rules of its regions, irqs, remaps or log on purpose: `softwareMigrationHarness({ device, around: spoil, driver })`. */
export interface BrokenDevice {
  readonly name: string;
  /** The rules that fail, and no other; the first is the one that it is made for. */
  readonly breaks: readonly string[];
  /** What the first says then. */
  readonly because: string;
  readonly device?: SoftwareDeviceOptions;
  readonly spoil?: (port: DevicePort) => DevicePort;
  readonly driver?: (driver: SoftwareVendorDriver) => void;
}

const config = 7;

function fails(what: string): Call<never> {
  return throwError(() => new VfioError('VFIO_E_IO', what, { operation: 'twin', errno: 'EIO' }));
}

/** Whatever this fails with, the answer is this. */
function forgiven<T>(call: Call<T>, answer: T): Call<T> {
  return call.pipe(catchError(() => of(answer)));
}

/** Every irq that the port registers, changed. */
function withHandles(port: DevicePort, change: (handle: IrqHandle) => Partial<IrqHandle>): DevicePort {
  const changed = (handle: IrqHandle): IrqHandle => withChanges(handle, change(handle));
  return withChanges(port, {
    irq: (line, options) => port.irq(line, options).pipe(map(changed)),
    irqs: (index, vectors, options) => port.irqs(index, vectors, options).pipe(map((handles) => handles.map(changed))),
  });
}

/** What one user leaves behind for the next. */
interface Left {
  readonly keys: Set<string>;
}

/** The next user stumbles over it once. */
function taken<T>(left: Left, key: string, mine: Set<string>, call: Call<T>): Call<T> {
  return defer(() => {
    if (left.keys.has(key) && !mine.has(key)) {
      left.keys.clear();
      return fails(`${key} is taken`);
    }
    return call.pipe(tap(() => {
      left.keys.add(key);
      mine.add(key);
    }));
  });
}

/** One for each rule of a device, and some for what drivers do in more ways than one. */
export const brokenDevices: readonly BrokenDevice[] = [
  {
    name: 'answers otherwise each time', breaks: ['REGION-1', 'REGION-5'], because: 'region 2 was',
    spoil(port) {
      let asked = 0;
      return withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (index === face.trapped ? { ...info, size: info.size * (1 + (asked++ % 2)) } : info))) });
    },
  },
  {
    name: 'lets an area be mapped once', breaks: ['REGION-2'], because: 'the second time',
    spoil(port) {
      const once = new Set<string>();
      return withChanges(port, {
        map: (region, area) => defer(() => {
          const key = `${region} ${area.offset} ${area.size}`;
          if (once.has(key)) return fails('the second time');
          once.add(key);
          return port.map(region, area);
        }),
      });
    },
  },
  {
    name: 'maps whole areas alone', breaks: ['REGION-3'], because: 'not the whole area',
    spoil: (port) => withChanges(port, { map: (region, area) => (area.size === port.traits.pageSize ? fails('not the whole area') : port.map(region, area)) }),
  },
  {
    name: 'has no bytes in its configuration space', breaks: ['REGION-4'], because: 'read as bytes',
    spoil: (port) => withChanges(port, { access: (request) => port.access(request).pipe(map((bytes) => (request.region === config && request.readBytes === 1 ? Uint8Array.of(0xff) : bytes))) }),
  },
  {
    name: 'comes out of a reset as another', breaks: ['REGION-5'], because: 'irq 1 was',
    spoil(port) {
      let reset = false;
      return withChanges(port, {
        reset: () => port.reset().pipe(tap(() => { reset = true; })),
        irqInfo: (index) => port.irqInfo(index).pipe(map((info) => (reset && index === face.msi.index ? { ...info, count: info.count + 1 } : info))),
      });
    },
  },
  {
    name: 'keeps what its last user had mapped', breaks: ['REGION-6'], because: 'is taken',
    spoil: (() => {
      const left: Left = { keys: new Set() };
      return (port) => {
        const mine = new Set<string>();
        return withChanges(port, {
          map: (region, area) => taken(left, `region ${region} ${area.offset}`, mine, port.map(region, area)),
          unmap: (mapping, area) => port.unmap(mapping, area).pipe(tap(() => { left.keys.delete(`region ${mapping.region} ${mapping.area.offset}`); })),
        });
      };
    })(),
  },
  {
    name: 'has other irqs when it is asked again', breaks: ['IRQ-1', 'REGION-5'], because: 'asked again it had',
    spoil(port) {
      let asked = 0;
      return withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(map((info) => (index === face.msi.index ? { ...info, flags: info.flags ^ (8 * (asked++ % 2)) } : info))) });
    },
  },
  {
    name: 'masks what nobody can unmask', breaks: ['IRQ-2'], because: 'nobody can unmask it',
    spoil: (port) => withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(map((info) => (index === face.intx.index ? { ...info, maskable: false } : info))) }),
  },
  {
    name: 'takes one eventfd for all vectors', breaks: ['IRQ-3', 'IRQ-4', 'IRQ-5'], because: 'one at a time', device: { irqs: { msi: 4 } },
    spoil: (port) => withChanges(port, { irqs: (index, vectors, options) => (vectors.length > 1 ? fails('one at a time') : port.irqs(index, vectors, options)) }),
  },
  {
    name: 'registers an irq once', breaks: ['IRQ-4'], because: 'the second time',
    spoil(port) {
      const once = new Set<number>();
      return withChanges(port, {
        irqs: (index, vectors, options) => defer(() => {
          if (once.has(index)) return fails('the second time');
          once.add(index);
          return port.irqs(index, vectors, options);
        }),
      });
    },
  },
  {
    name: 'takes a loopback, and does not signal', breaks: ['IRQ-5'], because: 'the signal of a loopback of irq 0 did not come',
    spoil: (port) => withHandles(port, () => ({ trigger: () => of(undefined) })),
  },
  {
    name: 'keeps the irqs of its last user', breaks: ['IRQ-6'], because: 'is taken',
    spoil: (() => {
      const left: Left = { keys: new Set() };
      return (port) => {
        const mine = new Set<string>();
        const closing = withHandles(port, (handle) => ({ close: () => handle.close().pipe(tap({ complete: () => { left.keys.delete(`irq ${handle.line.index}`); } })) }));
        return withChanges(closing, { irqs: (index, vectors, options) => taken(left, `irq ${index}`, mine, closing.irqs(index, vectors, options)) });
      };
    })(),
  },
  {
    name: 'declares a region that it does not have', breaks: ['REMAP-1'], because: 'declares region 3',
    spoil: (port) => withChanges(port, { irqInfo: (index) => port.irqInfo(index).pipe(map((info) => (info.remap?.subtype === 'region-remap' ? { ...info, remap: { ...info.remap, regions: info.remap.regions | (1n << 3n) } } : info))) }),
  },
  {
    name: 'goes its way where there is nobody to ask', breaks: ['REMAP-2'], because: 'should have been refused',
    spoil: (port) => withChanges(port, { setState: (to) => port.setState(to).pipe(catchError((error: unknown) => (VfioError.is(error) && error.code === 'VFIO_E_REFUSED' ? of({ state: to }) : throwError(() => error)))) }),
  },
  {
    name: 'does not wait for the ack', breaks: ['REMAP-3', 'REMAP-6', 'REMAP-7', 'REMAP-8', 'REMAP-9'], because: 'has returned before the ack',
    spoil: (port) => withHandles(port, (handle) => (handle.line.index === face.remap.index ? { next: () => handle.next().pipe(concatMap((signal) => handle.ack(signal.count).pipe(ignoreElements(), endWith(signal)))) } : {})),
  },
  { name: 'hears no ack', breaks: ['REMAP-3', 'REMAP-4', 'REMAP-6', 'REMAP-9', 'REMAP-10'], because: 'VFIO_E_ACK_TIMEOUT', driver: ({ faults }) => { faults.ignoreAcks = true; } },
  { name: 'takes its own signal away', breaks: ['REMAP-3', 'REMAP-4', 'REMAP-6', 'REMAP-7', 'REMAP-8', 'REMAP-9', 'REMAP-10'], because: 'and nothing had been signalled', driver: ({ faults }) => { faults.drain = 'always'; } },
  { name: 'signals before it has the layout', breaks: ['REMAP-4'], because: 'all that was offered is offered still', driver: ({ faults }) => { faults.signalBeforeLayout = true; } },
  { name: 'names no region', breaks: ['REMAP-5'], because: 'a count of 1 does not name region', device: { remap: { signals: 'bitmap' } }, driver: ({ faults }) => { faults.addOne = true; } },
  { name: 'names regions that it has not declared', breaks: ['REMAP-5'], because: 'has bits of regions that are not declared', device: { remap: { signals: 'bitmap' } }, driver: ({ faults }) => { faults.signalUndeclared = true; } },
  { name: 'takes any ack for the right one', breaks: ['REMAP-6'], because: 'by an ack of what was never sent', driver: ({ faults }) => { faults.takeAnyAck = true; } },
  { name: 'does not say that it has rolled back', breaks: ['REMAP-7'], because: 'the signal of the remap irq did not come', driver: ({ faults }) => { faults.silentRollBack = true; } },
  { name: 'waits for an irq that was taken away', breaks: ['REMAP-8'], because: 'should end with VFIO_E_CANCELED', driver: ({ faults }) => { faults.ignoreDisable = true; } },
  {
    name: 'answers nobody while it waits', breaks: ['REMAP-9'], because: 'has returned while other calls were made',
    spoil(port) {
      let outstanding: Observable<unknown> = EMPTY;
      return withChanges(port, {
        setState: (to) => defer(() => {
          const reply = new ReplaySubject<{ readonly state: State }>(1);
          port.setState(to).subscribe(reply);
          outstanding = reply.pipe(ignoreElements(), catchError(() => EMPTY));
          return reply;
        }),
        info: () => concat(outstanding.pipe(ignoreElements()), port.info()),
      });
    },
  },
  {
    name: 'does not give back what it took', breaks: ['REMAP-10'], because: 'region 0 was',
    spoil(port) {
      let saved = false;
      return withChanges(port, {
        setState: (to) => port.setState(to).pipe(tap(() => { saved = true; })),
        regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (saved && index === face.mailbox ? { ...info, areas: [] } : info))),
      });
    },
  },
  {
    name: 'shrinks while it saves', breaks: ['REMAP-10'], because: 'the size of region 0 was',
    spoil(port) {
      let saves = false;
      return withChanges(port, {
        setState: (to) => port.setState(to).pipe(tap(() => { saves = to === 'stop-copy'; })),
        regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (saves && index === face.mailbox ? { ...info, size: info.size / 2 } : info))),
      });
    },
  },
  {
    name: 'saves with mappings in its way', breaks: ['REMAP-11'], because: 'should have been refused', device: { remap: { profile: 'saving-layout' } },
    spoil: (port) => withChanges(port, { setState: (to) => port.setState(to).pipe(catchError((error: unknown) => (VfioError.is(error) && error.code === 'VFIO_E_BUSY' ? of({ state: to }) : throwError(() => error)))) }),
  },
  {
    name: 'promises more than it offers while it saves', breaks: ['REMAP-12'], because: 'region 0 does not offer', device: { remap: { profile: 'saving-layout' } },
    spoil: (port) => withChanges(port, { regionInfo: (index) => port.regionInfo(index).pipe(map((info) => (index === face.mailbox ? { ...info, savingAreas: [face.whole] } : info))) }),
  },
  { name: 'tracks pages of no size that there is', breaks: ['LOG-1'], because: 'pages of 3000 bytes', spoil: withLog((log) => ({ start: (request) => log.start(request).pipe(map(() => 3000)) })) },
  { name: 'begins a second log', breaks: ['LOG-2'], because: 'a second log should have failed', spoil: withLog((log) => ({ start: (request) => forgiven(log.start(request), 4096) })) },
  { name: 'says the same page again and again', breaks: ['LOG-3'], because: 'the second has pages', spoil: withLog((log) => ({ report: (part) => log.report(part).pipe(map((bits) => bits.with(1, 1))) })) },
  { name: 'has seen nothing', breaks: ['LOG-4', 'LOG-6'], because: 'page 5 was written', spoil: withLog((log) => ({ report: (part) => log.report(part).pipe(map((bits) => new Uint8Array(bits.length))) })) },
  { name: 'reports of whatever it is asked for', breaks: ['LOG-5'], because: 'a report of what is not logged should have failed', spoil: withLog((log) => ({ report: (part) => forgiven(log.report(part), new Uint8Array(8)) })) },
  {
    name: 'begins a log anew when it stops', breaks: ['LOG-6'], because: 'before it stopped',
    spoil(port) {
      let stopped = false;
      const forgetful = withChanges(port, { setState: (to) => port.setState(to).pipe(tap(() => { stopped ||= to === 'stop'; })) });
      return withLog((log) => ({ report: (part) => log.report(part).pipe(map((bits) => (stopped ? new Uint8Array(bits.length) : bits))) }))(forgetful);
    },
  },
  {
    name: 'keeps a log over a close', breaks: ['LOG-7'], because: 'the begin of a log: VFIO_E_IO',
    spoil: (() => {
      const left: Left = { keys: new Set() };
      return (port) => {
        const mine = new Set<string>();
        return withLog((log) => ({
          start: (request) => taken(left, 'the log', mine, log.start(request)),
          stop: () => log.stop().pipe(tap({ complete: () => { left.keys.clear(); } })),
        }))(port);
      };
    })(),
  },
];

function withLog(change: (log: DevicePort['dmaLogging']) => Partial<DevicePort['dmaLogging']>): (port: DevicePort) => DevicePort {
  return (port) => withChanges(port, { dmaLogging: withChanges(port.dmaLogging, change(port.dmaLogging)) });
}
