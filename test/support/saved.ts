import { defer, EMPTY, expand, type Observable } from 'rxjs';
import type { Chunk } from '../../src/devices/port.js';
import type { SavedState } from '../../src/streams/saved-state.js';

/** Reads until there is nothing now, or no more: every chunk, the last one included. */
export function drained(saved: Pick<SavedState, 'read'>, maxBytes = 1 << 20): Observable<Chunk> {
  const next = defer(() => saved.read(maxBytes));
  return next.pipe(expand((chunk) => (chunk.kind === 'bytes' ? next : EMPTY)));
}
