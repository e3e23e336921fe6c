import { errnoError, VfioError } from '../../errors.js';
import { directCall, nowCall } from '../call.js';
import type { Call, Chunk, DataChannel, PrecopyInfo } from '../port.js';
import { notPreCopying, precopyOperation } from '../uapi/precopy-info.js';
import { answerLater } from './late-call.js';
import { SaveSession, type Session } from './state-stream.js';
import type { Timers } from './timers.js';

/** A data_fd of this device. The session may end before it: then calls fail with VFIO_E_NO_DEVICE (ENODEV). */
export class SoftwareDataChannel implements DataChannel {
  readonly direction: 'save' | 'resume';
  private readonly session: Session;
  private readonly timers: Timers;
  private readonly device: string;
  private busy = false;
  private closed = false;

  constructor(session: Session, timers: Timers, device: string) {
    this.direction = session.direction;
    this.session = session;
    this.timers = timers;
    this.device = device;
  }

  read(maxBytes: number, into?: Uint8Array): Call<Chunk> {
    return this.oneAtATime('read data_fd', () => {
      if (!(this.session instanceof SaveSession)) throw this.wrongDirection('read');
      if (!(maxBytes > 0)) throw new VfioError('VFIO_E_RANGE', `cannot read ${maxBytes} bytes: ask for at least 1`, { operation: 'read data_fd', device: this.device });
      const chunk = this.session.read(Math.floor(maxBytes), into);
      if (typeof chunk === 'string') throw errnoError(chunk, 'read data_fd', this.device);
      return chunk;
    });
  }

  write(bytes: Uint8Array): Call<void> {
    return this.oneAtATime('write data_fd', () => {
      if (this.session instanceof SaveSession) throw this.wrongDirection('write');
      const errno = this.session.write(bytes);
      if (errno !== undefined) throw errnoError(errno, 'write data_fd', this.device);
    });
  }

  precopy(): Call<PrecopyInfo> {
    return this.oneAtATime(precopyOperation, () => {
      const info = this.session instanceof SaveSession ? this.session.precopy() : 'EINVAL';
      if (info === 'EINVAL') throw notPreCopying({ operation: precopyOperation, device: this.device });
      if (typeof info === 'string') throw errnoError(info, precopyOperation, this.device);
      return info;
    });
  }

  close(): Call<void> {
    return nowCall(() => { this.closed = true; });
  }

  private oneAtATime<T>(operation: string, body: () => T): Call<T> {
    return directCall<T>((asker) => {
      if (this.closed) { asker.failed(new VfioError('VFIO_E_CLOSED', 'this data_fd is closed', { operation, device: this.device })); return undefined; }
      if (this.busy) { asker.failed(new VfioError('VFIO_E_BUSY', 'a read or write of this data_fd is under way: wait for it', { operation, device: this.device })); return undefined; }
      this.busy = true;
      return answerLater(this.timers, asker, () => {
        this.busy = false;
        return body();
      });
    });
  }

  private wrongDirection(what: string): VfioError {
    return new VfioError('VFIO_E_RANGE', `a data_fd of direction ${this.direction} takes no ${what}`, { operation: `${what} data_fd`, device: this.device });
  }
}
