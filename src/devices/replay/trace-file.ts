import { close, open, writeFile } from 'node:fs';
import { ReplaySubject, type Observable } from 'rxjs';
import { fileErrnoError } from '../../errors.js';
import type { RecordingOptions, TraceSink } from './recorder.js';

/** What became of a trace's file. */
export interface TraceFileReport {
  readonly path: string;
  readonly lines: number;
  /** Lines that found no room, because the disk was slower than the device, or failed. */
  readonly dropped: number;
  readonly error?: unknown;
}

/** A file that takes a recording. */
export interface TraceFile extends TraceSink {
  /** One report when the file is closed; replayed to late subscribers. Never fails. */
  readonly closed: Observable<TraceFileReport>;
}

/** What a file takes, and how much is kept. */
export interface TraceFileOptions extends RecordingOptions {
  /** Bytes that may wait for the disk, 4 MiB unless told. A line that finds no room is dropped, and counted. */
  readonly maxPendingBytes?: number;
}

const operation = 'write trace';

/**
 * A file for a recording: made with the first line, and written over when the device is open, so that one that does not open leaves what is
 * there. It never blocks the loop: lines wait in memory while the disk writes, in a buffer that is bounded.
 */
export function traceFile(path: string, { maxPendingBytes = 4 * 2 ** 20, ...recording }: TraceFileOptions = {}): TraceFile {
  const closed = new ReplaySubject<TraceFileReport>(1);
  let waiting: string[] = [];
  let pendingBytes = 0;
  let lines = 0;
  let dropped = 0;
  let fd: number | undefined;
  let opened = false;
  /** The device is being opened: nothing is written over before it is. */
  let held = false;
  /** There is something that would be. */
  let standing = false;
  let busy = false;
  let ended = false;
  let error: unknown;

  const fail = (cause: NodeJS.ErrnoException): void => {
    error ??= fileErrnoError(cause.code ?? 'EIO', operation, path, cause);
    dropped += waiting.length;
    waiting = [];
  };
  const report = (): void => {
    closed.next({ path, lines: lines - dropped, dropped, ...(error === undefined ? {} : { error }) });
    closed.complete();
  };
  const proceed = (): void => {
    if (busy) return;
    if (held && standing) {
      if (!ended) return;
      waiting = [];
      lines = dropped;
      report();
    } else if (waiting.length > 0 && !opened) {
      busy = true;
      open(path, held ? 'wx' : 'w', (failed, descriptor) => {
        busy = false;
        if (failed?.code === 'EEXIST') standing = true;
        else {
          opened = true;
          if (failed === null) fd = descriptor;
          else fail(failed);
        }
        proceed();
      });
    } else if (waiting.length > 0 && fd !== undefined) {
      const chunk = waiting.join('');
      const count = waiting.length;
      waiting = [];
      busy = true;
      writeFile(fd, chunk, (failed) => {
        busy = false;
        pendingBytes -= Buffer.byteLength(chunk);
        if (failed !== null) {
          dropped += count;
          fail(failed);
        }
        proceed();
      });
    } else if (ended && fd !== undefined) {
      busy = true;
      close(fd, (failed) => {
        if (failed !== null) fail(failed);
        report();
      });
    } else if (ended) report();
  };

  return {
    write(line) {
      lines += 1;
      const bytes = Buffer.byteLength(line) + 1;
      if (ended || error !== undefined || pendingBytes + bytes > maxPendingBytes) {
        dropped += 1;
        return false;
      }
      pendingBytes += bytes;
      waiting.push(`${line}\n`);
      proceed();
      return true;
    },
    end() {
      if (ended) return;
      ended = true;
      proceed();
    },
    hold() {
      held = true;
      return {
        open() {
          held = false;
          proceed();
        },
      };
    },
    closed: closed.asObservable(),
    recording,
  };
}
