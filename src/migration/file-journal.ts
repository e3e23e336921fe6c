import { close, constants, fsync, open, read, unlink, write } from 'node:fs';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { array, intersection, literal, string, type, union } from 'io-ts';
import { directCall, disregard, ownedCall } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import { steps, type Steps } from '../devices/steps.js';
import { decodeOrThrow } from '../codec.js';
import { VfioError } from '../errors.js';
import type { Journal, JournalEntry } from './journal.js';

/** An entry takes one of two slots in turn, so that a write that is torn leaves the one before it whole. */
const slotBytes = 64 * 1024;

/** What stands behind an entry. */
const blank = Buffer.alloc(slotBytes, ' ');
blank.write('\n', slotBytes - 1);

/** For what stands in the file, then for an entry. Kept for the next entry: new memory costs as much as all calls of an entry but the write. */
let spare: Buffer | undefined;

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
 *
 * The file is opened by its name for each entry, and read before it is written: somebody else may have put another one there, or written in it.
 */
export function fileJournal(path: string): Journal {
  // Once begun they run to their end: a record that is half written helps nobody, and what was opened is closed.
  return {
    name: path,
    read: () => ownedCall(() => steps(() => typed(path, 'read', lastEntry(path)))),
    write: (entry) => ownedCall(() => steps(() => typed(path, 'write', appended(path, entry)))),
  };
}

function* typed<T>(path: string, operation: string, work: Steps<T>): Steps<T> {
  try {
    return yield* work;
  } catch (error) {
    throw VfioError.is(error) ? error : journalError(path, operation, error);
  }
}

function* lastEntry(path: string): Steps<JournalEntry | undefined> {
  const fd = yield* opened(path, constants.O_RDONLY);
  return fd === undefined ? undefined : yield* closing(fd, function* (memory): Steps<JournalEntry | undefined> {
    return (yield* latest(path, fd, memory))?.entry;
  });
}

function* appended(path: string, entry: JournalEntry): Steps<void> {
  // Each write returns when its bytes are on the disk: one call in place of two, while no device of a migration runs.
  const fd = yield* opened(path, constants.O_RDWR | constants.O_DSYNC);
  if (fd === undefined) {
    yield* begun(path, entry);
    return;
  }
  yield* closing(fd, function* (memory): Steps<void> {
    const count = ((yield* latest(path, fd, memory))?.count ?? 0) + 1;
    yield* written(fd, slotOf(path, { count, entry }, memory.subarray(0, slotBytes)), (count % 2) * slotBytes);
  });
}

/** A new file, which gets all its room now. One that holds no whole entry would be in the way of the next attempt, when there is room again. */
function* begun(path: string, entry: JournalEntry): Steps<void> {
  const fd = (yield fsCall<number>((done) => open(path, 'wx+', 0o600, done))) as number;
  yield* closing(fd, function* (memory): Steps<void> {
    try {
      blank.copy(memory);
      slotOf(path, { count: 1, entry }, memory.subarray(slotBytes));
      yield* written(fd, memory, 0);
      yield fsCall((done) => fsync(fd, done));
    } catch (error) {
      yield* withdrawn(path);
      throw error;
    }
  });
  const folder = (yield fsCall<number>((done) => open(dirname(path), 'r', done))) as number;
  yield* closing(folder, function* (): Steps<void> {
    yield fsCall((done) => fsync(folder, done));
  });
}

function* withdrawn(path: string): Steps<void> {
  try {
    yield fsCall((done) => unlink(path, done));
  } catch {
    // The failure of the write is the one that counts.
  }
}

function* written(fd: number, bytes: Uint8Array, at: number): Steps<void> {
  const count = (yield fsCall<number>((done) => write(fd, bytes, 0, bytes.length, at, done))) as number;
  if (count !== bytes.length) throw new Error(`${count} of ${bytes.length} bytes written`);
}

/** undefined: it is not there. */
function* opened(path: string, flags: number): Steps<number | undefined> {
  try {
    return (yield fsCall<number>((done) => open(path, flags, 0o600, done))) as number;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** Nobody waits for the close: what was written is on the disk. */
function* closing<T>(fd: number, body: (memory: Buffer) => Steps<T>): Steps<T> {
  const memory = spare ?? Buffer.allocUnsafeSlow(2 * slotBytes);
  spare = undefined;
  try {
    return yield* body(memory);
  } finally {
    spare = memory;
    disregard(fsCall((done) => close(fd, done)));
  }
}

/** @param slot the memory for it */
function slotOf(path: string, { count, entry }: Slot, slot: Buffer): Buffer {
  const text = Buffer.from(JSON.stringify({ count, ...entry }));
  if (text.length > slotBytes - 16) throw journalError(path, 'write', new Error(`${text.length} bytes do not fit an entry`));
  blank.copy(slot);
  slot.write(head(text));
  text.copy(slot, 9);
  return slot;
}

/** What stands before an entry: its checksum, 9 bytes. */
function head(text: Uint8Array): string {
  return `${crc32(text).toString(16).padStart(8, '0')} `;
}

/** The entry with the higher count; one that is torn, or was never written, is none. */
function* latest(path: string, fd: number, bytes: Buffer): Steps<Slot | undefined> {
  const length = (yield fsCall<number>((done) => read(fd, bytes, 0, bytes.length, 0, done))) as number;
  const [first, second] = [0, slotBytes].map((at) => readSlot(path, bytes.subarray(at, Math.min(at + slotBytes, length))));
  const last = (first?.count ?? 0) > (second?.count ?? 0) ? first : second;
  if (last === undefined && length > 0) throw journalError(path, 'read', new Error('it holds no entry that is whole'));
  return last;
}

function readSlot(path: string, slot: Buffer): Slot | undefined {
  const end = slot.lastIndexOf('}') + 1;
  const text = slot.subarray(9, end);
  if (slot.toString('latin1', 0, 9) !== head(text) || !slot.subarray(end).equals(blank.subarray(end))) return undefined;
  const value = JSON.parse(text.toString()) as { readonly count: number };
  return { count: value.count, entry: decodeOrThrow(codec, value, 'VFIO_E_JOURNAL', 'read', path) };
}

/** A call of node:fs, without a Promise. */
function fsCall<T = void>(start: (done: (error: Error | null, value?: T) => void) => void): Call<T> {
  return directCall<T>((asker) => {
    start((error, value) => {
      if (error === null) asker.answered(value as T);
      else asker.failed(error);
    });
    return undefined;
  });
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

function journalError(path: string, operation: string, cause: unknown): VfioError {
  return new VfioError('VFIO_E_JOURNAL', `the journal cannot be relied on: ${cause instanceof Error ? cause.message : String(cause)}`, { operation, device: path, cause });
}
