import { concatMap, defer, map, of, tap } from 'rxjs';
import { VfioError } from '../../errors.js';
import type { Call, RegionInfo, State, StateReply } from '../port.js';
import { protocolError } from '../uapi/bytes.js';
import { VFIO_PCI_NUM_REGIONS, VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED, VFIO_REGION_TYPE_MIGRATION_DEPRECATED } from '../uapi/constants.js';
import { bitsOfState, encodeDeviceState, isV1State, migrationInfoLayout, readDeviceState, sessionOf, stateOfBits } from '../uapi/migration-info.js';
import { V1DataChannel, type V1Parts } from './v1-data-channel.js';

/** More regions than any device has: indexes beyond are not asked for. */
const mostRegions = 1024;

const stateBytes = 4;

/**
 * The migration region of a device, at whatever index it stands; undefined where there is none. Throws VFIO_E_PROTOCOL where
 * there are two, or where the region cannot hold, or be read and written as, what v1 says.
 *
 * @param query GET_REGION_INFO; undefined where the device has no region at this index
 */
export function findMigrationRegion(count: number, query: (index: number) => RegionInfo | undefined, device: string): RegionInfo | undefined {
  let found: RegionInfo | undefined;
  for (let index = VFIO_PCI_NUM_REGIONS; index < Math.min(count, mostRegions); index += 1) {
    const info = query(index);
    if (info?.type?.type !== VFIO_REGION_TYPE_MIGRATION_DEPRECATED || info.type.subtype !== VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED) continue;
    const origin = { operation: `VFIO_DEVICE_GET_REGION_INFO(${index})`, device };
    if (found !== undefined) throw protocolError(origin, 0, `regions ${found.index} and ${index} are both the migration region`);
    if (info.size <= migrationInfoLayout.sizeof) throw protocolError(origin, 0, `the migration region has ${info.size} bytes: too few for its struct and any data`);
    if (!info.readable || !info.writable) throw protocolError(origin, 0, 'the migration region cannot be read and written');
    found = info;
  }
  return found;
}

/**
 * device_state of a device that speaks v1: a word at the beginning of its migration region. Which arcs there are is the
 * port's to judge; here is what a write and a read of that word mean.
 */
export class V1Region {
  readonly #parts: V1Parts;
  #bits = 0;
  #state: State = 'running';
  #session: V1DataChannel | undefined;

  constructor(parts: V1Parts) {
    this.#parts = parts;
  }

  /** Fails with VFIO_E_PROTOCOL where the word names no state. */
  getState(operation = 'device_state'): Call<State> {
    return defer(() => {
      this.#parts.requireOpen(operation);
      return this.#parts.access('state', { offset: migrationInfoLayout.device_state, readBytes: stateBytes }, operation).pipe(
        map((bytes) => {
          this.#bits = readDeviceState(bytes);
          return stateOfBits(this.#bits, { operation, device: this.#parts.device });
        }),
        tap((state) => this.#saw(state)),
      );
    });
  }

  /**
   * Writes the word, and reads it back: a driver that reports success from another state is not believed (VFIO_E_PROTOCOL).
   * The device was seen in `from`; a session that begins with `to` is the reply's `data`.
   */
  writeState(from: State, to: State, operation: string): Call<StateReply> {
    return defer(() => {
      if (!isV1State(to)) throw new VfioError('VFIO_E_ARC', `${to} is no state of v1`, { operation, device: this.#parts.device });
      if (from === to) return of({ state: to });
      const write = encodeDeviceState(bitsOfState(to, this.#bits));
      return this.#parts.access('state', { offset: migrationInfoLayout.device_state, write }, operation).pipe(
        concatMap(() => this.getState(operation)),
        map((state) => {
          if (state !== to) {
            throw protocolError({ operation, device: this.#parts.device }, migrationInfoLayout.device_state, `the write succeeded, and device_state names ${state}`);
          }
          return this.#reply(to);
        }),
      );
    });
  }

  /** VFIO_DEVICE_RESET: the device runs, and no session is left. */
  wasReset(): void {
    this.#saw('running');
  }

  /** One `step` where there is a session: it ends, and what it has mapped is given back. */
  release(step: (what: string, release: () => void) => void): void {
    if (this.#session !== undefined) step('migration data closed', () => this.#end());
  }

  #end(): void {
    this.#session?.end();
    this.#session = undefined;
  }

  #saw(state: State): void {
    this.#state = state;
    if (this.#session !== undefined && this.#session.direction !== sessionOf(state)) this.#end();
  }

  #reply(state: State): StateReply {
    const direction = sessionOf(state);
    if (direction === undefined || this.#session !== undefined) return { state };
    const data = new V1DataChannel({ ...this.#parts, direction, final: () => this.#state === 'stop-copy' });
    this.#session = data;
    return { state, data };
  }
}
