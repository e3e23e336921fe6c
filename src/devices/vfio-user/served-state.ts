import { map, of, type Observable } from 'rxjs';
import { VfioError } from '../../errors.js';
import { disregard } from '../call.js';
import type { Chunk, DataChannel, DevicePort, IovaRange } from '../port.js';
import { steps, type Steps } from '../steps.js';
import {
  VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIGRATION,
} from '../uapi/constants.js';
import { encodeLoggingReport, encodeLoggingStart, encodeMigData, encodeUserState, migrationReply, readFeatureCall, readLoggingReport, readLoggingStart, readMigData, readMigDataSize, stateOf, type FeatureCall } from './messages/feature.js';

const features: readonly number[] = [
  VFIO_DEVICE_FEATURE_MIGRATION, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_DMA_LOGGING_START, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
];

/** DEVICE_FEATURE and MIG_DATA_*: device_state of a port, its one session, and its log of written pages. */
export class ServedState {
  readonly #port: DevicePort;
  readonly #mapped: () => readonly IovaRange[];
  #session: DataChannel | undefined;

  /** @param mapped what a log is about that names no ranges: all that the client has mapped */
  constructor(port: DevicePort, mapped: () => readonly IovaRange[]) {
    this.#port = port;
    this.#mapped = mapped;
  }

  feature(payload: Uint8Array): Observable<Uint8Array> {
    const call = readFeatureCall(payload);
    if (!features.includes(call.feature)) throw this.#error('ENOTTY', `there is no feature ${call.feature}`);
    if (call.access === 'probe') return of(payload);
    switch (call.feature) {
      case VFIO_DEVICE_FEATURE_MIGRATION:
        this.#require(call, 'get');
        return this.#port.migration().pipe(
          map((traits) => {
            if (traits?.version !== 2) throw this.#error('ENOTTY', 'the device has no device_state of v2');
            return migrationReply(traits.flags);
          }),
        );
      case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
        return call.access === 'get' ? this.#port.getState().pipe(map((state) => encodeUserState('get', state))) : this.#set(call);
      case VFIO_DEVICE_FEATURE_DMA_LOGGING_START: {
        this.#require(call, 'set');
        const start = readLoggingStart(call.data);
        const ranges = start.ranges.length === 0 ? this.#mapped() : start.ranges;
        return this.#port.dmaLogging.start({ ...start, ranges }).pipe(map((pageSize) => encodeLoggingStart({ ...start, pageSize })));
      }
      case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
        this.#require(call, 'set');
        return this.#port.dmaLogging.stop().pipe(map(() => payload));
      default: {
        this.#require(call, 'get');
        const part = readLoggingReport(call.data);
        return this.#port.dmaLogging.report(part).pipe(map((bits) => encodeLoggingReport(part, bits)));
      }
    }
  }

  /** As much as was asked for, where there is so much: fewer bytes say that there are no more now. */
  read(payload: Uint8Array): Observable<Uint8Array> {
    const channel = this.#open('save');
    return steps(() => readUpTo(channel, readMigDataSize(payload)));
  }

  write(payload: Uint8Array): Observable<unknown> {
    return this.#open('resume').write(readMigData(payload));
  }

  /** After a reset there is none. */
  release(): void {
    disregard(this.#session?.close());
    this.#session = undefined;
  }

  #set({ data }: FeatureCall): Observable<Uint8Array> {
    const to = stateOf(data);
    return this.#port.setState(to).pipe(
      map((reply) => {
        if (reply.data !== undefined) {
          this.release();
          this.#session = reply.data;
        }
        return encodeUserState('set', reply.state);
      }),
    );
  }

  #open(direction: 'save' | 'resume'): DataChannel {
    if (this.#session?.direction !== direction) throw this.#error('EINVAL', `there is no session of ${direction === 'save' ? 'saving' : 'resuming'}`);
    return this.#session;
  }

  #require({ access, feature }: FeatureCall, offered: 'get' | 'set'): void {
    if (access !== offered) throw this.#error('EINVAL', `feature ${feature} has no ${access}`);
  }

  #error(errno: 'EINVAL' | 'ENOTTY', message: string): VfioError {
    return new VfioError(errno === 'EINVAL' ? 'VFIO_E_RANGE' : 'VFIO_E_UNSUPPORTED', message, { operation: 'DEVICE_FEATURE', device: this.#port.name, errno });
  }
}

function* readUpTo(channel: DataChannel, size: number): Steps<Uint8Array> {
  const whole = new Uint8Array(size);
  let filled = 0;
  while (filled < size) {
    const chunk = (yield channel.read(size - filled)) as Chunk;
    if (chunk.kind !== 'bytes' || chunk.bytes.length === 0) break;
    whole.set(chunk.bytes, filled);
    filled += chunk.bytes.length;
  }
  return encodeMigData(filled, whole.subarray(0, filled));
}
