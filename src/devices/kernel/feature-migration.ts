import { defer, map, tap } from 'rxjs';
import type { Syscalls } from '../linux/syscalls.js';
import type { Call, State, StateReply } from '../port.js';
import { isSaving } from '../protocol/migration-states.js';
import { VFIO_DEVICE_FEATURE } from '../uapi/constants.js';
import { encodeStateQuery, encodeStateSet, readDataFd, readMigState } from '../uapi/migration-feature.js';
import { KernelDataChannel } from './data-channel.js';
import type { LaneCalls } from './lane-calls.js';
import type { ReleaseStep } from './opened-device.js';

/** What device_state of v2 needs of its port. */
export interface FeatureParts {
  readonly device: string;
  readonly fd: number;
  readonly calls: Syscalls;
  readonly laneCalls: LaneCalls;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
}

/** device_state of v2, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, and the data_fds that it makes. */
export class FeatureMigration {
  readonly #parts: FeatureParts;
  readonly #precopyFlags: boolean;
  readonly #channels = new Set<KernelDataChannel>();
  #state: State = 'running';

  /** @param precopyFlags the user has opted in to PRECOPY_INFOv2 */
  constructor(parts: FeatureParts, precopyFlags = false) {
    this.#parts = parts;
    this.#precopyFlags = precopyFlags;
  }

  getState(): Call<State> {
    return this.#feature(encodeStateQuery, 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE').pipe(
      map((bytes) => readMigState(bytes, this.#parts.device).state),
      tap((state) => (this.#state = state)),
    );
  }

  writeState(_from: State, to: State, operation: string): Call<StateReply> {
    return this.#feature(() => encodeStateSet(to), operation).pipe(map((bytes) => this.#reply(bytes)));
  }

  wasReset(): void {
    this.#state = 'running';
  }

  release(step: ReleaseStep): void {
    for (const channel of [...this.#channels]) step('data_fd closed', () => channel.release());
  }

  #feature(argument: () => Uint8Array, operation: string): Call<Uint8Array> {
    return defer(() => {
      const { fd, device, laneCalls, requireOpen } = this.#parts;
      requireOpen(operation);
      return laneCalls.submit('state', { op: 'ioctl', fd, request: VFIO_DEVICE_FEATURE, argument: argument(), operation, device }).pipe(map(({ bytes }) => bytes));
    });
  }

  #reply(bytes: Uint8Array): StateReply {
    const dataFd = readDataFd(bytes);
    try {
      const { state } = readMigState(bytes, this.#parts.device);
      this.#state = state;
      return dataFd === undefined ? { state } : { state, data: this.#channel(dataFd, state) };
    } catch (error) {
      if (dataFd !== undefined) this.#parts.calls.close(dataFd, this.#parts.device);
      throw error;
    }
  }

  #channel(fd: number, state: State): KernelDataChannel {
    const { calls, device, laneCalls, requireOpen } = this.#parts;
    const channel = new KernelDataChannel({
      fd,
      direction: isSaving(state) ? 'save' : 'resume',
      calls,
      device,
      submit: (request) => laneCalls.submit(`data:${fd}`, request),
      requireOpen,
      final: () => this.#state === 'stop-copy',
      precopyFlags: this.#precopyFlags,
      closed: () => this.#channels.delete(channel),
    });
    this.#channels.add(channel);
    return channel;
  }
}
