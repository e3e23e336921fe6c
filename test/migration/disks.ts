import { defer, NEVER, throwError } from 'rxjs';
import { VfioError } from '../../src/errors.js';
import type { Journal } from '../../src/migration/journal.js';

/** Which write of a journal fails. */
export interface DiskFault {
  readonly record: number;
  /** The next one, too. */
  readonly twice: boolean;
  /** The entry is there all the same. */
  readonly kept: boolean;
}

/** A disk that is full for a while. `hit` is told each time. */
export function failing(journal: Journal, faults: readonly DiskFault[], hit: () => void): Journal {
  let n = -1;
  return {
    name: journal.name,
    read: () => journal.read(),
    write: (entry) =>
      defer(() => {
        n += 1;
        const fault = faults.find(({ record, twice }) => record === n || (twice && record + 1 === n));
        if (fault === undefined) return journal.write(entry);
        hit();
        if (fault.kept) journal.write(entry).subscribe({ error: () => undefined });
        return throwError(() => new VfioError('VFIO_E_JOURNAL', 'the disk is full', { operation: 'write' }));
      }),
  };
}

/** A process that is dead writes nothing any more. */
export function mortal(journal: Journal, isDead: () => boolean): Journal {
  return { name: journal.name, read: () => journal.read(), write: (entry) => defer(() => (isDead() ? NEVER : journal.write(entry))) };
}
