import { catchError, defer, map, of, tap, throwError } from 'rxjs';
import type { Call, Chunk, DataChannel, DevicePort, State, StateReply } from '../../../devices/port.js';
import type { SoftwareVendorDriver } from '../../../devices/software/driver-face.js';
import { VfioError, type VfioErrorCode } from '../../../errors.js';
import { withChanges } from '../with-changes.js';

/** A device whose migration breaks rules on purpose: `softwareMigrationHarness({ around: spoil, driver })`. */
export interface BrokenMigration {
  readonly name: string;
  /** The rules that fail, and no other; the first is the one that it is made for. */
  readonly breaks: readonly string[];
  /** What the first says then. */
  readonly because: string;
  readonly spoil?: (port: DevicePort) => DevicePort;
  readonly driver?: (driver: SoftwareVendorDriver) => void;
}

function forgiven<T>(call: Call<T>, code: VfioErrorCode, answer: () => T): Call<T> {
  return call.pipe(catchError((error: unknown) => (VfioError.is(error) && error.code === code ? of(answer()) : throwError(() => error))));
}

/** Writes of device_state made otherwise; `from` is what the port was told last. */
function withWrites(port: DevicePort, write: (from: State, to: State) => Call<StateReply> | undefined): DevicePort {
  let from: State = 'running';
  return withChanges(port, {
    setState: (to) => defer(() => write(from, to) ?? port.setState(to)).pipe(tap(({ state }) => { from = state; })),
    reset: () => port.reset().pipe(tap(() => { from = 'running'; })),
  });
}

/** Every session that the port hands out, changed. */
function withSessions(port: DevicePort, change: (data: DataChannel) => Partial<DataChannel>): DevicePort {
  return withChanges(port, {
    setState: (to) => port.setState(to).pipe(map((reply) => (reply.data === undefined ? reply : { ...reply, data: withChanges(reply.data, change(reply.data)) }))),
  });
}

/** One for each rule of a device that migrates. */
export const brokenMigrations: readonly BrokenMigration[] = [
  {
    name: 'is stopped when it is opened', breaks: ['MIGRATION-1', 'MIGRATION-14'], because: 'it is in stop',
    spoil(port) {
      let used = false;
      const use = (): void => { used = true; };
      return withChanges(port, {
        getState: () => port.getState().pipe(map((state) => (used ? state : 'stop'))),
        setState: (to) => port.setState(to).pipe(tap(use)),
        reset: () => port.reset().pipe(tap(use)),
      });
    },
  },
  {
    name: 'says that it has gone an arc', breaks: ['MIGRATION-2'], because: 'should be in running-p2p, it is in running',
    spoil: (port) => withWrites(port, (from, to) => (from === 'running' && to === 'running-p2p' ? of({ state: to }) : undefined)),
  },
  {
    name: 'stops half-way', breaks: ['MIGRATION-3'], because: 'should be in stop, it is in running-p2p',
    spoil: (port) => withWrites(port, (from, to) => (from === 'running' && to === 'stop' ? port.setState('running-p2p').pipe(map(() => ({ state: to }))) : undefined)),
  },
  {
    name: 'begins a session anew inside the saving group', breaks: ['MIGRATION-4'], because: 'should bring no data_fd',
    spoil(port) {
      let last: DataChannel | undefined;
      return withWrites(port, (from, to) => port.setState(to).pipe(map((reply) => {
        last = reply.data ?? last;
        return from === 'pre-copy' && to === 'pre-copy-p2p' && last !== undefined ? { ...reply, data: last } : reply;
      })));
    },
  },
  {
    name: 'lets a session outlive its states', breaks: ['MIGRATION-5', 'MIGRATION-12'], because: 'should have failed',
    spoil: (port) => withSessions(port, (data) => ({ read: (maxBytes) => forgiven<Chunk>(data.read(maxBytes), 'VFIO_E_NO_DEVICE', () => ({ kind: 'end' })) })),
  },
  {
    name: 'goes on behind its end', breaks: ['MIGRATION-6', 'MIGRATION-7'], because: 'behind the end should be the end',
    spoil: (port) => withSessions(port, (data) => {
      let ended = false;
      return {
        read: (maxBytes) => data.read(maxBytes).pipe(map((chunk): Chunk => {
          if (chunk.kind !== 'end') return chunk;
          const first = !ended;
          ended = true;
          return first ? chunk : { kind: 'bytes', bytes: Uint8Array.of(0) };
        })),
      };
    }),
  },
  {
    name: 'ends while it runs', breaks: ['MIGRATION-7'], because: 'a device that runs has not said all',
    spoil: (port) => withSessions(port, (data) => ({ read: (maxBytes) => data.read(maxBytes).pipe(map((chunk): Chunk => (chunk.kind === 'quiet' ? { kind: 'end' } : chunk))) })),
  },
  {
    name: 'estimates in every state', breaks: ['MIGRATION-8'], because: 'an estimate in STOP_COPY should have failed',
    spoil: (port) => withSessions(port, (data) => ({ precopy: () => forgiven(data.precopy(), 'VFIO_E_RANGE', () => ({ initialBytes: 0n, dirtyBytes: 0n, reinit: false })) })),
  },
  {
    name: 'loads one byte wrongly', breaks: ['MIGRATION-9'], because: 'they differ from byte',
    // The last of a large piece: contents, and no header.
    spoil: (port) => withSessions(port, (data) => ({ write: (bytes) => data.write(bytes.length < 1000 ? bytes : bytes.with(-1, bytes.at(-1) === 0 ? 1 : 0)) })),
  },
  {
    name: 'takes a stream and loads nothing of it', breaks: ['MIGRATION-10', 'MIGRATION-11'], because: 'what was loaded is not what was saved',
    spoil: (port) => withSessions(port, (data) => ({ write: (bytes) => data.write(bytes.subarray(0, 0)) })),
  },
  {
    name: 'takes half a stream', breaks: ['MIGRATION-11'], because: 'bytes for its whole state',
    spoil: (port) => withWrites(port, (from, to) => (from === 'resuming' ? forgiven<StateReply>(port.setState(to), 'VFIO_E_IO', () => ({ state: to })) : undefined)),
  },
  {
    name: 'is not reset while it saves', breaks: ['MIGRATION-12', 'MIGRATION-2', 'MIGRATION-3', 'MIGRATION-4', 'MIGRATION-13'], because: 'a reset in pre-copy should lead to RUNNING',
    spoil(port) {
      let state: State = 'running';
      return withChanges(port, {
        setState: (to) => port.setState(to).pipe(tap((reply) => { state = reply.state; })),
        reset: () => defer(() => (state === 'pre-copy' ? of(undefined) : port.reset())),
      });
    },
  },
  {
    name: 'is as its last user left it', breaks: ['MIGRATION-14'], because: 'is opened in stop',
    spoil: (() => {
      let left: State = 'running';
      return (port) => {
        let used = false;
        const go = (state: State): void => {
          used = true;
          left = state;
        };
        return withChanges(port, {
          getState: () => port.getState().pipe(map((state) => (used ? state : left))),
          setState: (to) => port.setState(to).pipe(tap(({ state }) => { go(state); })),
          reset: () => port.reset().pipe(tap(() => { go('running'); })),
        });
      };
    })(),
  },
  { name: 'is slow', breaks: ['MIGRATION-13'], because: 'more than 1000', driver: (driver) => { driver.faults.arcLatencyUs = 1_100_000; } },
];
