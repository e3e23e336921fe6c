import { catchError, concatMap, defer, map } from 'rxjs';
import { stateErrnoError, VfioError } from '../../errors.js';
import { disregard, ownedCall } from '../call.js';
import type { LaneRequest } from '../linux/lane-request.js';
import type { InfoAccess, MappedData } from '../migration/v1-data-channel.js';
import { findMigrationRegion, V1Region } from '../migration/v1-region.js';
import type { AccessRequest, Area, Call, MigrationTraits, RegionInfo, State, StateReply } from '../port.js';
import { migrationFlags } from '../protocol/migration-states.js';
import { wayOf } from '../protocol/migration-ways.js';
import { protocolError } from '../uapi/bytes.js';
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 } from '../uapi/constants.js';
import { encodeFeature } from '../uapi/device-feature.js';
import { encodeMigrationQuery, readMigrationFlags } from '../uapi/migration-feature.js';
import { migrationInfoLayout } from '../uapi/migration-info.js';
import { FeatureMigration, type FeatureParts } from './feature-migration.js';
import type { KernelMappings } from './mappings.js';
import type { ReleaseStep } from './opened-device.js';

/** What device_state needs of its port. */
export interface MigrationParts extends FeatureParts {
  readonly mappings: KernelMappings;
  /** An ioctl on the loop. */
  readonly ioctl: (request: number, argument: Uint8Array, operation: string) => void;
  readonly regionCount: () => number;
  /** undefined where the device has no region at this index. */
  readonly regionInfo: (index: number) => RegionInfo | undefined;
}

/** device_state in one of its generations. */
interface Generation {
  getState(): Call<State>;
  /** The device was seen in `from`, and the arc is one that it has. */
  writeState(from: State, to: State, operation: string): Call<StateReply>;
  wasReset(): void;
  /** No call is out any more: gives back what sessions hold. */
  release(step: ReleaseStep): void;
}

/** How a device speaks of device_state; `region` is that of v1. */
interface Spoken {
  readonly traits: MigrationTraits | undefined;
  readonly generation: Generation;
  readonly region?: number;
}

/**
 * device_state of a kernel device, in the generation that its driver speaks; where it speaks both, the second. Whatever may
 * wait for the driver runs on the state lane: one thread, which nothing else queues behind.
 */
export class KernelMigration {
  readonly #parts: MigrationParts;
  /** Asked once: it does not change while the device is open. */
  #spoken: Spoken | undefined;

  constructor(parts: MigrationParts) {
    this.#parts = parts;
  }

  /** *Now.* undefined where the device cannot migrate. */
  traits(): MigrationTraits | undefined {
    return this.#find().traits;
  }

  getState(): Call<State> {
    return defer(() => this.#find().generation.getState());
  }

  setState(to: State): Call<StateReply> {
    const operation = `device_state ${to}`;
    return ownedCall(
      () =>
        this.getState().pipe(
          concatMap((from) => {
            this.#parts.requireOpen(operation);
            this.#requireArc(from, to, operation);
            return this.#find().generation.writeState(from, to, operation);
          }),
          catchError((error: unknown) => {
            if (VfioError.is(error) && error.errno === 'EPERM' && error.operation === operation) throw stateErrnoError(error.errno, operation, this.#parts.device, error.cause);
            throw error;
          }),
        ),
      (reply) => disregard(reply.data?.close()),
    );
  }

  /** VFIO_DEVICE_RESET has returned. */
  wasReset(): void {
    this.#spoken?.generation.wasReset();
  }

  /**
   * Throws VFIO_E_RANGE for a trapped write of v1's device_state past the state lane: it would wait for an ack where accesses
   * queue, or on the loop itself, and then nobody could serve what the driver waits for.
   */
  refuseStateWrite({ region, offset, write }: AccessRequest, operation: string): void {
    if (write === undefined || region !== this.#spoken?.region || offset >= migrationInfoLayout.reserved) return;
    throw new VfioError('VFIO_E_RANGE', 'device_state is written by transition(), which waits for it on a lane of its own', { operation, device: this.#parts.device });
  }

  release(step: ReleaseStep): void {
    this.#spoken?.generation.release(step);
  }

  #find(): Spoken {
    this.#parts.requireOpen('VFIO_DEVICE_FEATURE_MIGRATION');
    return (this.#spoken ??= this.#ask());
  }

  #ask(): Spoken {
    const flags = this.#featureFlags();
    if (flags !== undefined) return { traits: { version: 2, flags }, generation: new FeatureMigration(this.#parts, (flags & migrationFlags.preCopy) !== 0 && this.#precopyFlags()) };
    const region = findMigrationRegion(this.#parts.regionCount(), this.#parts.regionInfo, this.#parts.device);
    // A device that cannot migrate says so itself, to whoever asks for its state all the same.
    if (region === undefined) return { traits: undefined, generation: new FeatureMigration(this.#parts) };
    return { traits: { version: 1, flags: migrationFlags.stopCopy | migrationFlags.preCopy }, generation: this.#overRegion(region), region: region.index };
  }

  #featureFlags(): number | undefined {
    const query = encodeMigrationQuery();
    try {
      this.#parts.ioctl(VFIO_DEVICE_FEATURE, query, 'VFIO_DEVICE_FEATURE_MIGRATION');
    } catch (error) {
      if (VfioError.is(error) && error.code === 'VFIO_E_UNSUPPORTED') return undefined;
      throw error;
    }
    return Number(readMigrationFlags(query, this.#parts.device).flags & 0xffff_ffffn);
  }

  /** Opts in to the flags of VFIO_MIG_GET_PRECOPY_INFO; a kernel without them (before 7.2) is asked all the same, and nothing is read from `flags`. */
  #precopyFlags(): boolean {
    try {
      this.#parts.ioctl(VFIO_DEVICE_FEATURE, encodeFeature(VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2, 'set'), 'VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2');
      return true;
    } catch (error) {
      if (VfioError.is(error)) return false;
      throw error;
    }
  }

  #overRegion(region: RegionInfo): V1Region {
    const { device, requireOpen } = this.#parts;
    return new V1Region({
      device,
      region,
      requireOpen,
      access: (lane, access, operation) => this.#access(region, lane, access, operation),
      mapArea: (area) => this.#mapArea(region, area),
    });
  }

  #access(region: RegionInfo, lane: 'state' | 'data', { offset, write, readBytes = 0 }: InfoAccess, operation: string): Call<Uint8Array> {
    const { fd, device, laneCalls } = this.#parts;
    const where = { fd, offset: BigInt(region.fileOffset + offset), operation, device };
    const request: LaneRequest = write === undefined ? { op: 'pread', length: readBytes, ...where } : { op: 'pwrite', bytes: write, ...where };
    const length = write?.length ?? readBytes;
    return laneCalls.submit(lane === 'state' ? 'state' : `data:region ${region.index}`, request).pipe(
      map(({ value, bytes }) => {
        if (value === length) return bytes;
        throw protocolError({ operation, device }, offset, `the driver moved ${value} of ${length} bytes`);
      }),
    );
  }

  #mapArea(region: RegionInfo, area: Area): MappedData | undefined {
    const { mappings } = this.#parts;
    try {
      const mapping = mappings.map(region, area);
      return { bytes: new Uint8Array(mapping.memory), release: () => mappings.unmap(mapping, area) };
    } catch (error) {
      if (VfioError.is(error)) return undefined;
      throw error;
    }
  }

  /** The kernel is never asked for an arc that is not there: some kernels loop for ever on a blocked one. */
  #requireArc(from: State, to: State, operation: string): void {
    const traits = this.traits();
    if (traits !== undefined && wayOf(traits, from, to) !== undefined) return;
    throw new VfioError('VFIO_E_ARC', `there is no way from ${from} to ${to} on this device${from === 'error' ? ': reset it' : ''}`, { operation, device: this.#parts.device });
  }
}
