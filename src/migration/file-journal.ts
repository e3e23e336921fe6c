import { close, fsync, open, read, unlink, write } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { array, intersection, literal, string, type, union } from 'io-ts';
import { catchError, concat, concatMap, defer, EMPTY, ignoreElements, map, Observable, of, throwError, type MonoTypeOperatorFunction } from 'rxjs';
import { ownedCall } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import { decodeOrThrow } from '../codec.js';
import { VfioError } from '../errors.js';
import type { Journal, JournalEntry } from './journal.js';

/** An entry takes one of two slots in turn, so that a write that is torn leaves the one before it whole. */
const slotBytes = 64 * 1024;

const codec = intersection([
  type({ migration: string, devices: array(string) }),
  union([
    type({ side: literal('source'), record: union([literal('begun'), literal('decided'), literal('undone'), literal('taken-back'), literal('moved')]) }),
    type({ side: literal('destination'), record: union([literal('begun'), literal('prepared'), literal('running'), literal('discarded')]) }),
  ]),
]);

interface Slot {
  readonly count: number;
  readonly entry: JournalEntry;
}

/**
 * A journal in one file of fixed size: written whole with the first entry, so that a full disk is found before anything is stopped.
 * Each write is synced, and so is the directory when the file is new.
 */
export function fileJournal(path: string): Journal {
  const failed = <T>(operation: string): MonoTypeOperatorFunction<T> => catchError((error: unknown) => throwError(() => (VfioError.is(error) ? error : journalError(path, operation, error))));
  return {
    name: path,
    read: () =>
      withFile(path, 'r', (fd) => latest(path, fd)).pipe(
        map((slot) => slot?.entry),
        catchError((error: unknown) => (isErrno(error, 'ENOENT') ? of(undefined) : throwError(() => error))),
        failed('read'),
      ),
    // Once begun it runs to its end: a record that is half written helps nobody.
    write: (entry) => ownedCall(() => appended(path, entry).pipe(failed('write'))),
  };
}

function appended(path: string, entry: JournalEntry): Call<void> {
  const writeTo = (fd: number, isNew: boolean): Call<void> =>
    latest(path, fd).pipe(
      concatMap((last) => {
        const count = (last?.count ?? 0) + 1;
        const slot = slotOf(path, { count, entry });
        // A new file gets all its room now.
        const bytes = isNew ? Buffer.concat([Buffer.alloc(slotBytes, ' '), slot]) : slot;
        return fsCall<number>((done) => write(fd, bytes, 0, bytes.length, isNew ? 0 : (count % 2) * slotBytes, done)).pipe(
          concatMap((written) => (written === bytes.length ? fsCall<undefined>((done) => fsync(fd, done)) : throwError(() => new Error(`${written} of ${bytes.length} bytes written`)))),
        );
      }),
      map(() => undefined),
    );
  return withFile(path, 'r+', (fd) => writeTo(fd, false)).pipe(
    catchError((error: unknown) => {
      if (!isErrno(error, 'ENOENT')) return throwError(() => error);
      return withFile(path, 'wx+', (fd) => writeTo(fd, true).pipe(withdrawnIfItFails(path))).pipe(
        concatMap(() => withFile(dirname(path), 'r', (fd) => fsCall<undefined>((done) => fsync(fd, done)).pipe(map(() => undefined)))),
      );
    }),
  );
}

/** A new file that holds no whole entry would be in the way of the next attempt, when there is room again. */
function withdrawnIfItFails(path: string): MonoTypeOperatorFunction<void> {
  return catchError((error: unknown) => concat(fsCall<undefined>((done) => unlink(path, done)).pipe(ignoreElements(), catchError(() => EMPTY)), throwError(() => error)));
}

function slotOf(path: string, { count, entry }: Slot): Uint8Array {
  const text = Buffer.from(JSON.stringify({ count, ...entry }));
  if (text.length > slotBytes - 16) throw journalError(path, 'write', new Error(`${text.length} bytes do not fit an entry`));
  const slot = Buffer.alloc(slotBytes, ' ');
  slot.write(head(text));
  text.copy(slot, 9);
  slot.write('\n', slotBytes - 1);
  return slot;
}

/** What stands before an entry: its checksum, 9 bytes. */
function head(text: string | Uint8Array): string {
  return `${crc32(text).toString(16).padStart(8, '0')} `;
}

/** The entry with the higher count; one that is torn, or was never written, is none. */
function latest(path: string, fd: number): Call<Slot | undefined> {
  const bytes = new Uint8Array(2 * slotBytes);
  return fsCall<number>((done) => read(fd, bytes, 0, bytes.length, 0, done)).pipe(
    map((length) => {
      const slots = [0, slotBytes].map((at) => readSlot(path, bytes.subarray(at, Math.min(at + slotBytes, length))));
      const [first, second] = slots;
      const last = (first?.count ?? 0) > (second?.count ?? 0) ? first : second;
      if (last === undefined && length > 0) throw journalError(path, 'read', new Error('it holds no entry that is whole'));
      return last;
    }),
  );
}

function readSlot(path: string, slot: Uint8Array): Slot | undefined {
  const text = Buffer.from(slot.subarray(9)).toString().trimEnd();
  if (Buffer.from(slot.subarray(0, 9)).toString() !== head(text)) return undefined;
  const value = JSON.parse(text) as { readonly count: number };
  return { count: value.count, entry: decodeOrThrow(codec, value, 'VFIO_E_JOURNAL', 'read', path) };
}

function withFile<T>(path: string, flags: string, body: (fd: number) => Call<T>): Call<T> {
  return fsCall<number>((done) => open(path, flags, 0o600, done)).pipe(
    concatMap((fd) => {
      const closed = defer(() => fsCall<undefined>((done) => close(fd, done)));
      return body(fd).pipe(
        concatMap((value) => closed.pipe(map(() => value))),
        catchError((error: unknown) => closed.pipe(map(() => { throw error; }))),
      );
    }),
  );
}

/** A call of node:fs, without a Promise. */
function fsCall<T>(start: (done: (error: Error | null, value?: T) => void) => void): Call<T> {
  return new Observable<T>((subscriber) => {
    start((error, value) => {
      if (error !== null) {
        subscriber.error(error);
        return;
      }
      subscriber.next(value as T);
      subscriber.complete();
    });
  });
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function journalError(path: string, operation: string, cause: unknown): VfioError {
  return new VfioError('VFIO_E_JOURNAL', `the journal cannot be relied on: ${cause instanceof Error ? cause.message : String(cause)}`, { operation, device: path, cause });
}
