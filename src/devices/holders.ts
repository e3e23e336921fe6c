import { concat, EMPTY, merge, Observable, catchError, defer, ignoreElements, throwError, timeout } from 'rxjs';
import type { Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import { intersectAreas, subtractAreas } from './protocol/areas.js';
import type { Area, Call } from './port.js';

/** A live piece of a mapping, as a holder gets it: `bytes` begin at `area.offset` of the region. */
export interface MappedPiece {
  readonly region: number;
  readonly area: Area;
  /** Memory that contains the piece, and where in it the piece begins. */
  readonly memory: ArrayBufferLike;
  readonly byteOffset: number;
  /** Address of the piece in this process, for a view made in another thread; undefined where `memory` can be shared. */
  readonly address?: bigint;
}

/**
 * Somebody outside the accessors who uses mapped areas: a worker thread, a guest's memory slot, a relay's client.
 * It is asked before an area goes, and told when one comes back. Observables, not Promises: a Promise has no place
 * between an irq and its ack (law 1).
 */
export interface Holder {
  readonly name: string;
  /** Completes when the holder touches none of these areas any more. Must do so within the budget. */
  release(areas: readonly Area[]): Observable<unknown>;
  /** These pieces may be used from now on. Its end is awaited, within the same budget; a failure is reported and holds up no ack. */
  regain(pieces: readonly MappedPiece[]): Observable<unknown>;
}

/** The right to be asked; given back when the holder is done for good. */
export interface Hold {
  release(): Call<void>;
}

interface Entry {
  readonly holder: Holder;
  readonly wanted: readonly Area[];
  /** What it has now: only that is asked back. */
  held: readonly Area[];
}

/** The holders of one region. */
export class Holders {
  readonly #entries = new Set<Entry>();
  readonly #clock: Clock;
  readonly #device: string;

  constructor(clock: Clock, device: string) {
    this.#clock = clock;
    this.#device = device;
  }

  /** Returns how to take it out again. */
  add(holder: Holder, wanted: readonly Area[]): () => void {
    const entry: Entry = { holder, wanted, held: [] };
    this.#entries.add(entry);
    return () => this.#entries.delete(entry);
  }

  /** Asks every holder of a part of `areas` to let go; all at once, each within the budget. Fails with VFIO_E_HOLDER. */
  release(areas: readonly Area[], budgetMs: number): Observable<never> {
    const asked = [...this.#entries].flatMap((entry) => {
      const overlap = intersectAreas(entry.held, areas);
      return overlap.length === 0 ? [] : [this.#ask(entry, overlap, budgetMs)];
    });
    // merge, not forkJoin: that one ends with the first of these, since none of them has a value.
    return merge(...asked);
  }

  /** Tells the holders who want them of pieces that are mapped and that they do not have yet. */
  regain(pieces: readonly MappedPiece[], budgetMs: number): Observable<never> {
    const mapped = pieces.map((piece) => piece.area);
    const told = [...this.#entries].flatMap((entry) => {
      const fresh = intersectAreas(subtractAreas(entry.wanted, entry.held), mapped);
      return fresh.length === 0 ? [] : [this.#tell(entry, fresh, pieces, budgetMs)];
    });
    return merge(...told);
  }

  #ask(entry: Entry, areas: readonly Area[], budgetMs: number): Observable<never> {
    return concat(
      this.#within(defer(() => entry.holder.release(areas)), entry.holder, 'release', budgetMs),
      defer(() => {
        entry.held = subtractAreas(entry.held, areas);
        return EMPTY;
      }),
    );
  }

  #tell(entry: Entry, areas: readonly Area[], pieces: readonly MappedPiece[], budgetMs: number): Observable<never> {
    return defer(() => {
      entry.held = [...entry.held, ...areas];
      const mine = pieces.flatMap((piece) => cut(piece, areas));
      return this.#within(defer(() => entry.holder.regain(mine)), entry.holder, 'regain', budgetMs);
    });
  }

  #within(work: Observable<unknown>, holder: Holder, step: 'release' | 'regain', budgetMs: number): Observable<never> {
    const failure = (message: string, cause?: unknown): VfioError =>
      new VfioError('VFIO_E_HOLDER', message, { operation: `holder ${holder.name} ${step}`, device: this.#device, cause });
    return work.pipe(
      ignoreElements(),
      catchError((cause: unknown) => throwError(() => failure(`the holder failed to ${step}`, cause))),
      timeout({
        first: budgetMs,
        scheduler: this.#clock.scheduler,
        with: () => throwError(() => failure(`the holder did not ${step} within ${budgetMs} ms: raise holderBudgetMs, or make it answer faster`)),
      }),
    );
  }
}

/** The parts of a piece that lie in `areas`. */
function cut(piece: MappedPiece, areas: readonly Area[]): readonly MappedPiece[] {
  return intersectAreas([piece.area], areas).map((area) => {
    const skip = area.offset - piece.area.offset;
    return {
      ...piece,
      area,
      byteOffset: piece.byteOffset + skip,
      ...(piece.address === undefined ? {} : { address: piece.address + BigInt(skip) }),
    };
  });
}
