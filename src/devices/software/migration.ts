import { concatMap, defer } from 'rxjs';
import { errnoError, VfioError } from '../../errors.js';
import { deferred, disregard, ownedCall } from '../call.js';
import type { InfoAccess, MappedData } from '../migration/v1-data-channel.js';
import { findMigrationRegion, V1Region } from '../migration/v1-region.js';
import type { Area, Call, MigrationTraits, RegionInfo, State, StateReply } from '../port.js';
import { migrationFlags } from '../protocol/migration-states.js';
import { wayOf } from '../protocol/migration-ways.js';
import { SoftwareDataChannel } from './data-channel.js';
import { lateCall } from './late-call.js';
import type { Outcome } from './state-machine.js';
import type { Timers } from './timers.js';
import type { VendorDriver } from './vendor-driver.js';

/** What device_state needs of its port. */
export interface MigrationParts {
  readonly driver: VendorDriver;
  readonly timers: Timers;
  /** undefined where the device has no region at this index. */
  readonly regionInfo: (index: number) => RegionInfo | undefined;
  /** A call that closing the port waits for. */
  readonly stateCall: <T>(operation: string, begin: (done: (outcome: Outcome) => void) => void, read: (outcome: Outcome & { errno?: never }) => T) => Call<T>;
  /** Throws VFIO_E_CLOSED once the port is closed. */
  readonly requireOpen: (operation: string) => void;
}

/** device_state of a software device, in the generation that its driver speaks. */
export class SoftwareMigration {
  readonly #parts: MigrationParts;
  #v1: { readonly region: V1Region | undefined } | undefined;

  constructor(parts: MigrationParts) {
    this.#parts = parts;
  }

  /** *Now.* */
  traits(operation: string): MigrationTraits | undefined {
    const { migration, name } = this.#shape;
    if (this.#parts.driver.gone) throw errnoError('ENODEV', operation, name);
    if (migration.flags === 0) return undefined;
    if (migration.version === 2) return migration;
    return this.#region() === undefined ? undefined : { version: 1, flags: migrationFlags.stopCopy | migrationFlags.preCopy };
  }

  getState(): Call<State> {
    const operation = 'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE';
    return defer(() => {
      this.#parts.requireOpen(operation);
      const region = this.#region();
      return region === undefined ? this.#featureState(operation) : region.getState();
    });
  }

  setState(to: State): Call<StateReply> {
    if (this.#shape.migration.version === 2) return this.#setFeature(to);
    return deferred(() => {
      this.#parts.requireOpen('device_state');
      const region = this.#region();
      return region === undefined ? this.#setFeature(to) : this.#setWord(region, to);
    });
  }

  wasReset(): void {
    this.#v1?.region?.wasReset();
  }

  #featureState(operation: string): Call<State> {
    const { driver, timers, requireOpen } = this.#parts;
    return lateCall(timers, () => {
      requireOpen(operation);
      const errno = driver.gone ? 'ENODEV' : this.#shape.migration.flags === 0 ? 'ENOTTY' : undefined;
      if (errno !== undefined) throw errnoError(errno, operation, this.#shape.name);
      return driver.state;
    });
  }

  #setFeature(to: State): Call<StateReply> {
    const { driver, timers, stateCall } = this.#parts;
    const { migration, name } = this.#shape;
    return stateCall(
      'VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE',
      (done) => {
        if (migration.flags !== 0 && !driver.busy && !driver.gone) this.#requireArc(driver.state, to);
        driver.setState(to, done);
      },
      ({ state, session }) => (session === undefined ? { state } : { state, data: new SoftwareDataChannel(session, timers, name) }),
    );
  }

  #setWord(region: V1Region, to: State): Call<StateReply> {
    const operation = `device_state ${to}`;
    return ownedCall(
      () =>
        region.getState(operation).pipe(
          concatMap((from) => {
            this.#requireArc(from, to);
            return region.writeState(from, to, operation);
          }),
        ),
      (reply) => disregard(reply.data?.close()),
    );
  }

  /** Asked once: undefined for a device that speaks v2, or has lost its region. */
  #region(): V1Region | undefined {
    if (this.#shape.migration.version === 2) return undefined;
    this.#v1 ??= { region: this.#find() };
    return this.#v1.region;
  }

  #find(): V1Region | undefined {
    const { numRegions, name } = this.#shape;
    const region = findMigrationRegion(numRegions, this.#parts.regionInfo, name);
    if (region === undefined) return undefined;
    return new V1Region({
      device: name,
      region,
      requireOpen: this.#parts.requireOpen,
      access: (lane, access, operation) => this.#access(region.index, lane, access, operation),
      mapArea: (area) => this.#mapArea(region.index, area),
    });
  }

  #access(region: number, lane: 'state' | 'data', { offset, write, readBytes = 0 }: InfoAccess, operation: string): Call<Uint8Array> {
    const { driver, timers, stateCall } = this.#parts;
    if (lane === 'state' && write !== undefined) {
      const begin = (done: (outcome: Outcome) => void): void => {
        if (driver.gone) done({ errno: 'ENODEV' });
        else driver.v1?.writeState(write, done);
      };
      return stateCall(operation, begin, () => new Uint8Array(0));
    }
    return lateCall(timers, () => {
      const answer = write === undefined ? driver.read(region, offset, readBytes) : (driver.write(region, offset, write) ?? new Uint8Array(0));
      if (typeof answer === 'string') throw errnoError(answer, operation, this.#shape.name);
      return answer;
    });
  }

  #mapArea(region: number, area: Area): MappedData | undefined {
    const { driver } = this.#parts;
    const mapping = driver.mmap(region, area);
    if (typeof mapping === 'string') return undefined;
    return { bytes: new Uint8Array(mapping.memory), release: () => driver.munmap(mapping, area) };
  }

  #requireArc(from: State, to: State): void {
    const { migration, name } = this.#shape;
    if (wayOf(migration, from, to) !== undefined) return;
    throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it first' : ''}`, { operation: `device_state ${to}`, device: name });
  }

  get #shape(): VendorDriver['shape'] {
    return this.#parts.driver.shape;
  }
}
