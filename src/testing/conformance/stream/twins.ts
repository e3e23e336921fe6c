import { catchError, concat, defer, ignoreElements, merge, mergeMap, NEVER, Observable, observeOn, of, ReplaySubject, Subscription, take, tap, throwError } from 'rxjs';
import type { VfioDevice } from '../../../devices/device.js';
import type { IrqSignal } from '../../../devices/port.js';
import { VfioError, type VfioErrorCode } from '../../../errors.js';
import { deviceState } from '../../../streams/device-state.js';
import { irq } from '../../../streams/irq.js';
import type { StreamSubject } from './subject.js';

/** A stream that breaks rules on purpose. */
export interface BrokenStream {
  readonly name: string;
  /** The rules that fail, and no other; the first is the one that it is made for. */
  readonly breaks: readonly string[];
  /** What the first says then. */
  readonly because: string;
  readonly subject: StreamSubject;
}

type Signals = Observable<IrqSignal>;

/** MSI, with something done to it. */
function signals(spoil: (stream: Signals, device: VfioDevice) => Observable<unknown>): StreamSubject {
  return {
    make: (device) => spoil(irq(device, { index: 1 }), device),
    device: { remap: false },
    provoke: (driver) => { driver.raiseMsi(); },
    fail: (driver) => { driver.faults.failIrq('EMFILE'); },
  };
}

const isCode = (error: unknown, code: VfioErrorCode): boolean => VfioError.is(error) && error.code === code;

/** Takes a device that is closed for one that has nothing to say; `when`: it has told something. */
function waitsForEver(stream: Signals, when: (told: boolean) => boolean): Signals {
  return defer(() => {
    let told = false;
    return stream.pipe(tap(() => { told = true; }), catchError((error: unknown) => (isCode(error, 'VFIO_E_CLOSED') && when(told) ? NEVER : throwError(() => error))));
  });
}

/** One for each rule of a stream. */
export const brokenStreams: readonly BrokenStream[] = [
  {
    name: 'registers when it is made', breaks: ['STREAM-1', 'STREAM-7'], because: 'before anybody subscribed',
    subject: signals((stream) => {
      const early = new ReplaySubject<IrqSignal>(1);
      stream.subscribe(early);
      return early;
    }),
  },
  { name: 'tells nothing', breaks: ['STREAM-2'], because: 'nothing was told', subject: signals((stream) => stream.pipe(ignoreElements())) },
  {
    name: 'tells everything again by a Promise', breaks: ['STREAM-3'], because: 'only when Promises had run',
    subject: signals((stream) => stream.pipe(mergeMap((signal) => merge(of(signal), Promise.resolve(signal))))),
  },
  {
    name: 'goes on for whoever has left', breaks: ['STREAM-4', 'STREAM-5', 'STREAM-6'], because: 'after unsubscribing',
    subject: signals((stream) => Object.assign(new Observable<IrqSignal>(), {
      subscribe: (observer: { next: (signal: IrqSignal) => void; error: (error: unknown) => void }) => {
        stream.subscribe(observer);
        return new Subscription();
      },
    })),
  },
  {
    name: 'keeps its irq', breaks: ['STREAM-5', 'STREAM-4', 'STREAM-6'], because: 'eventfds',
    subject: signals((stream) => new Observable((subscriber) => { stream.subscribe({ next: (signal) => subscriber.next(signal), error: (error: unknown) => subscriber.error(error), complete: () => subscriber.complete() }); })),
  },
  {
    name: 'tells the second subscriber what the first was told', breaks: ['STREAM-6'], because: 'the second subscription did not ask for',
    subject: signals((stream) => {
      let first: IrqSignal | undefined;
      return defer(() => (first === undefined ? stream.pipe(tap((signal) => { first = signal; })) : concat(of(first), NEVER)));
    }),
  },
  { name: 'fails with an error of no kind', breaks: ['STREAM-7'], because: 'should be a VfioError', subject: signals((stream) => stream.pipe(catchError((error: unknown) => throwError(() => (isCode(error, 'VFIO_E_LIMIT') ? new Error('no file descriptor') : error))))) },
  {
    name: 'outlives its device', breaks: ['STREAM-8'], because: 'it should have ended with its device',
    subject: signals((stream) => waitsForEver(stream, (told) => told)),
  },
  { name: 'waits for a device that is closed', breaks: ['STREAM-9'], because: 'its device is closed', subject: signals((stream) => waitsForEver(stream, (told) => !told)) },
  { name: 'ends with its first value', breaks: ['STREAM-10'], because: 'should not complete', subject: signals((stream) => stream.pipe(take(1))) },
  {
    name: 'has no current value at once', breaks: ['STREAM-11'], because: 'inside subscribe()',
    subject: {
      make: (device) => deviceState(device).pipe(observeOn(device.clock.scheduler)),
      device: { remap: false },
      current: true,
      provoke: (_, device) => { device.writeState(device.currentState.state === 'running' ? 'stop' : 'running').subscribe({ error: () => undefined }); },
    },
  },
];
