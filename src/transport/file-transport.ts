import { randomUUID } from 'node:crypto';
import { close, open, read, readdir, rename, stat, unlink, write, writeFile } from 'node:fs';
import { join } from 'node:path';
import { Observable, timer } from 'rxjs';
import type { Clock } from '../clock.js';
import type { Call } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import { VfioError } from '../errors.js';
import { linkError, type Connection, type Transport } from './transport.js';

/** Files are looked at again after so long, at first and at most, ms. */
const firstPauseMs = 1;
const mostPauseMs = 20;

/** What one read takes, bytes. */
const readBytes = 1 << 18;

export interface FileTransportOptions {
  /** How long a file grows before the next one is begun, bytes: one that was read is removed. Default 64 MiB. */
  readonly segmentBytes?: number;
}

/** Two ends that need nothing in common but a folder. */
export interface FileTransport {
  /** The end that connects. */
  readonly connecting: Transport;
  /** The end that waits for a connection. */
  readonly listening: Transport;
}

/**
 * Bytes through files of a folder that both sides reach: a disk of the machine, or one that two machines share.
 *
 * ```
 * call-ID    taken-ID                   who connects, and that somebody listened
 * ID-0.0  ID-0.1  ...  ID-0.end         what it says: file after file, and that it said all
 * ID-1.0  ...          ID-1.end         what it is answered
 * ```
 *
 * Who can write there is believed. Files are looked at again and again, so that nothing but reading and writing is asked of the file system; when both
 * ends are closed none is left. A side that died ends nothing: the other one's deadlines do.
 */
export function fileTransport(folder: string, { segmentBytes = 1 << 26 }: FileTransportOptions = {}): FileTransport {
  const name = `file:${folder}`;
  const end = (own: 0 | 1, meet: (clock: Clock, met: (id: string) => void) => Call<string>): Transport => ({
    name,
    open: (clock) =>
      new Observable<Connection>((subscriber) => {
        if (clock.virtual) throw new VfioError('VFIO_E_CLOCK', 'files do not follow virtual time: take memoryTransport', { operation: 'connection', device: name });
        let id: string | undefined;
        let handedOver = false;
        subscriber.add(() => {
          // Whoever meets this end all the same hears at once that it has gone.
          if (id !== undefined && !handedOver) new FileConnection({ folder, id, own, clock, segmentBytes }).close();
        });
        subscriber.add(meet(clock, (one) => (id = one)).subscribe({
          next: (met) => {
            handedOver = true;
            subscriber.next(new FileConnection({ folder, id: met, own, clock, segmentBytes }));
            subscriber.complete();
          },
          error: (error: unknown) => subscriber.error(linkError(name, `no connection: ${reason(error)}`, error)),
        }));
      }),
  });
  return {
    connecting: end(0, (clock, met) => steps(() => called(folder, clock, met))),
    listening: end(1, (clock, met) => steps(() => answered(folder, clock, met))),
  };
}

function* called(folder: string, clock: Clock, met: (id: string) => void): Steps<string> {
  const id = randomUUID();
  met(id);
  yield fsCall((done) => writeFile(join(folder, `call-${id}`), '', { flag: 'wx', mode: 0o600 }, done));
  for (const pauseMs of pauses()) {
    if ((yield isThere(join(folder, `taken-${id}`))) === true) return id;
    yield timer(pauseMs, clock.scheduler);
  }
  return id;
}

function* answered(folder: string, clock: Clock, met: (id: string) => void): Steps<string> {
  for (const pauseMs of pauses()) {
    const names = (yield fsCall<string[]>((done) => readdir(folder, done))) as readonly string[];
    for (const call of names.filter((one) => one.startsWith('call-')).sort()) {
      const id = call.slice('call-'.length);
      // Another may have taken it, and it may have gone.
      if ((yield fsCall<boolean>((done) => rename(join(folder, call), join(folder, `taken-${id}`), (error) => done(isErrno(error, 'ENOENT') ? null : error, error === null)))) === true) {
        met(id);
        return id;
      }
    }
    yield timer(pauseMs, clock.scheduler);
  }
  return '';
}

function* pauses(): Generator<number, void, void> {
  for (let ms = firstPauseMs; ; ms = Math.min(2 * ms, mostPauseMs)) yield ms;
}

interface FileParts {
  readonly folder: string;
  readonly id: string;
  readonly own: 0 | 1;
  readonly clock: Clock;
  readonly segmentBytes: number;
}

/** One of the files that one direction is made of. */
interface Segment {
  fd: number | undefined;
  number: number;
  /** Read, or written. */
  bytes: number;
}

class FileConnection implements Connection {
  readonly name: string;
  readonly #parts: FileParts;
  readonly #in: Segment = { fd: undefined, number: 0, bytes: 0 };
  readonly #out: Segment = { fd: undefined, number: 0, bytes: 0 };
  #memory = Buffer.allocUnsafeSlow(readBytes);
  /** The system still reads into it. */
  #filling = false;
  /** Calls that the system has not answered: their files stay open. */
  #busy = 0;
  #closed = false;

  constructor(parts: FileParts) {
    this.#parts = parts;
    this.name = `file:${parts.folder}`;
  }

  read(): Call<Uint8Array | undefined> {
    return steps(() => this.#reading());
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return steps(() => this.#writing(Buffer.concat(parts)));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#busy === 0) this.#finish();
  }

  *#reading(): Steps<Uint8Array | undefined> {
    for (const pauseMs of pauses()) {
      const bytes = yield* this.#some();
      if (bytes.length > 0) return bytes;
      const { number } = this.#in;
      const [ended, more] = [(yield this.#call((done) => exists(this.#end(this.#other), done))) as boolean, (yield this.#call((done) => exists(this.#path(this.#other, number + 1), done))) as boolean];
      if (ended || more) {
        // What stands before them is there by now.
        const late = yield* this.#some();
        if (late.length > 0) return late;
        if (!more) return undefined;
        yield* this.#leave(this.#in);
        yield this.#call((done) => unlink(this.#path(this.#other, number), done));
      } else {
        yield timer(pauseMs, this.#parts.clock.scheduler);
      }
    }
    return undefined;
  }

  *#some(): Steps<Uint8Array> {
    const segment = this.#in;
    if (segment.fd === undefined) yield this.#call((done) => this.#open(segment, this.#path(this.#other, segment.number), 'r', (error) => done(isErrno(error, 'ENOENT') ? null : error)));
    const { fd, bytes } = segment;
    if (fd === undefined) return new Uint8Array(0);
    // For a read that somebody left, and that may yet come.
    if (this.#filling) this.#memory = Buffer.allocUnsafeSlow(readBytes);
    const memory = this.#memory;
    this.#filling = true;
    const length = (yield this.#call<number>((done) => read(fd, memory, 0, readBytes, bytes, (error, filled) => {
      if (memory === this.#memory) this.#filling = false;
      done(error, filled);
    }))) as number;
    segment.bytes += length;
    return memory.subarray(0, length);
  }

  *#writing(bytes: Uint8Array): Steps<void> {
    const segment = this.#out;
    for (let rest = bytes; rest.length > 0; ) {
      if (segment.bytes >= this.#parts.segmentBytes) yield* this.#leave(segment);
      if (segment.fd === undefined) yield this.#call((done) => this.#open(segment, this.#path(this.#parts.own, segment.number), 'wx', done));
      const { fd } = segment;
      if (fd === undefined) return;
      const now = rest;
      const length = (yield this.#call<number>((done) => write(fd, now, 0, now.length, null, done))) as number;
      segment.bytes += length;
      rest = rest.subarray(length);
    }
  }

  /** Goes on to the next file. */
  *#leave(segment: Segment): Steps<void> {
    const { fd } = segment;
    Object.assign(segment, { fd: undefined, number: segment.number + 1, bytes: 0 });
    if (fd !== undefined) yield this.#call((done) => close(fd, done));
  }

  /** Kept also where nobody waits for it any more: it is closed with the connection. */
  #open(segment: Segment, path: string, flags: string, done: (error: NodeJS.ErrnoException | null) => void): void {
    open(path, flags, 0o600, (error, fd) => {
      if (error === null) segment.fd = fd;
      done(error);
    });
  }

  #call<T>(start: (done: (error: Error | null, value?: T) => void) => void): Call<T> {
    return new Observable<T>((subscriber) => {
      if (this.#closed) {
        subscriber.error(linkError(this.name, 'the connection is closed'));
        return;
      }
      this.#busy += 1;
      start((error, value) => {
        this.#busy -= 1;
        if (this.#closed && this.#busy === 0) this.#finish();
        if (error === null) {
          subscriber.next(value as T);
          subscriber.complete();
        } else subscriber.error(linkError(this.name, `its files cannot be read or written: ${reason(error)}`, error));
      });
    });
  }

  /** Says that this was all, and removes everything where the other side has said so, too. What fails here is in nobody's way. */
  #finish(): void {
    const { folder, id, own } = this.#parts;
    for (const { fd } of [this.#in, this.#out]) if (fd !== undefined) close(fd, () => undefined);
    writeFile(this.#end(own), '', { mode: 0o600 }, () => {
      exists(this.#end(this.#other), (_, over) => {
        if (over !== true) return;
        readdir(folder, (error, names) => {
          if (error !== null) return;
          for (const name of names) if (name.includes(id)) unlink(join(folder, name), () => undefined);
        });
      });
    });
  }

  get #other(): 0 | 1 {
    return this.#parts.own === 0 ? 1 : 0;
  }

  #path(of: 0 | 1, segment: number): string {
    return join(this.#parts.folder, `${this.#parts.id}-${of}.${segment}`);
  }

  #end(of: 0 | 1): string {
    return join(this.#parts.folder, `${this.#parts.id}-${of}.end`);
  }
}

function isThere(path: string): Call<boolean> {
  return fsCall((done) => exists(path, done));
}

function exists(path: string, done: (error: Error | null, there?: boolean) => void): void {
  stat(path, (error) => done(isErrno(error, 'ENOENT') ? null : error, error === null));
}

function fsCall<T>(start: (done: (error: Error | null, value?: T) => void) => void): Call<T> {
  return new Observable<T>((subscriber) => {
    start((error, value) => {
      if (error === null) {
        subscriber.next(value as T);
        subscriber.complete();
      } else subscriber.error(error);
    });
  });
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
