import { catchError, concatMap, map, of } from 'rxjs';
import { stateErrnoError, VfioError } from '../../errors.js';
import { disregard, ownedCall } from '../call.js';
import type { Call, MigrationTraits, State, StateReply } from '../port.js';
import { arcEffect } from '../protocol/migration-states.js';
import { wayOf } from '../protocol/migration-ways.js';
import { encodeMigrationQuery, readMigrationFlags } from '../uapi/migration-feature.js';
import type { UserConnection } from './connection.js';
import { UserDataChannel } from './data-channel.js';
import { encodeUserState, readUserState } from './messages/feature.js';
import { Serial } from './serial.js';

/** What device_state needs of its port. */
export interface UserMigrationParts {
  readonly device: string;
  readonly request: UserConnection['request'];
  /** The largest count that the server takes, bytes. */
  readonly maxDataBytes: () => number;
  readonly requireOpen: (operation: string) => void;
}

const migrationOperation = 'VFIO_DEVICE_FEATURE_MIGRATION';
const stateOperation = 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE';

/** errnos with which servers say that they have no such feature. */
const absent: ReadonlySet<string | undefined> = new Set(['EINVAL', 'ENOTTY', 'EOPNOTSUPP', 'ENOSYS']);

/**
 * device_state of v2 over the socket. There are no data_fds: the server has one session, which MIG_DATA_READ and MIG_DATA_WRITE are about, and
 * which begins and ends with the arcs that would make and end a data_fd.
 */
export class UserMigration {
  readonly #parts: UserMigrationParts;
  readonly #serial = new Serial();
  #traits: MigrationTraits | undefined | 'unknown' = 'unknown';
  #state: State = 'running';
  #session: UserDataChannel | undefined;

  constructor(parts: UserMigrationParts) {
    this.#parts = parts;
  }

  /** Asked once: it does not change while the device is open. */
  traits(): Call<MigrationTraits | undefined> {
    return ownedCall(() => {
      this.#parts.requireOpen(migrationOperation);
      if (this.#traits !== 'unknown') return of(this.#traits);
      return this.#parts.request('DEVICE_FEATURE', migrationOperation, encodeMigrationQuery()).pipe(
        map(({ payload }): MigrationTraits => ({ version: 2, flags: Number(readMigrationFlags(payload, this.#parts.device).flags & 0xffff_ffffn) })),
        catchError((error: unknown) => {
          if (VfioError.is(error) && absent.has(error.errno)) return of(undefined);
          throw error;
        }),
        map((traits) => (this.#traits = traits)),
      );
    });
  }

  getState(): Call<State> {
    return this.#serial.run(() => this.#getState());
  }

  setState(to: State): Call<StateReply> {
    const operation = `device_state ${to}`;
    const write = (from: State): Call<StateReply> => {
      this.#parts.requireOpen(operation);
      return this.#parts.request('DEVICE_FEATURE', operation, encodeUserState('set', to)).pipe(
        map(({ payload }) => this.#arrived(from, readUserState(payload))),
        catchError((error: unknown) => {
          throw VfioError.is(error) && error.errno === 'EPERM' ? stateErrnoError('EPERM', operation, this.#parts.device, error) : error;
        }),
      );
    };
    return ownedCall(
      () => this.#serial.run(() => this.traits().pipe(concatMap((traits) => this.#getState().pipe(concatMap((from) => {
        this.#requireArc(traits, from, to, operation);
        return write(from);
      }))))),
      (reply) => disregard(reply.data?.close()),
    );
  }

  reset(): Call<void> {
    return this.#serial.run(() => {
      this.#parts.requireOpen('VFIO_DEVICE_RESET');
      return this.#parts.request('DEVICE_RESET', 'VFIO_DEVICE_RESET', new Uint8Array(0)).pipe(map(() => {
        this.#session?.end();
        this.#session = undefined;
        this.#state = 'running';
      }));
    });
  }

  #getState(): Call<State> {
    this.#parts.requireOpen(stateOperation);
    return this.#parts.request('DEVICE_FEATURE', stateOperation, encodeUserState('get')).pipe(map(({ payload }) => (this.#state = readUserState(payload))));
  }

  /** What the way did to sessions: one that was made on it, and not ended, is new. */
  #arrived(from: State, to: State): StateReply {
    this.#state = to;
    const traits = this.#traits;
    const way = typeof traits === 'object' ? (wayOf(traits, from, to) ?? [to]) : [to];
    let made: 'save' | 'resume' | undefined;
    let at = from;
    for (const state of way) {
      const { ends, makes } = arcEffect(at, state);
      at = state;
      if (ends !== undefined) {
        this.#session?.end();
        this.#session = undefined;
        made = undefined;
      }
      made = makes ?? made;
    }
    if (made === undefined) return { state: to };
    const { device, request, maxDataBytes, requireOpen } = this.#parts;
    this.#session = new UserDataChannel({ direction: made, device, request, maxDataBytes, requireOpen, final: () => this.#state === 'stop-copy' });
    return { state: to, data: this.#session };
  }

  #requireArc(traits: MigrationTraits | undefined, from: State, to: State, operation: string): void {
    if (traits !== undefined && wayOf(traits, from, to) !== undefined) return;
    throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it' : ''}`, { operation, device: this.#parts.device });
  }
}
