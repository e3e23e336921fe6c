import { catchError, concat, defer, EMPTY, finalize, ignoreElements, merge, throwError, timeout, type Observable } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import { disregard, nowCall } from './call.js';
import { intersectAreas, normalizeAreas, subtractAreas } from './protocol/areas.js';
import type { Area, Call, Mapping } from './port.js';

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

/** A piece of a mapping that is live. */
export interface LivePiece {
  readonly mapping: Mapping;
  readonly area: Area;
}

/** The same, as a holder gets it. */
export function pieceOf({ mapping, area }: LivePiece): MappedPiece {
  const { region, memory, address } = mapping;
  const byteOffset = area.offset - mapping.area.offset;
  return { region, area, memory, byteOffset, ...(address === undefined ? {} : { address: address + BigInt(byteOffset) }) };
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
  /** These pieces may be used from now on. Comes after the ack and holds up nothing; unsubscribed when it takes longer than the budget, or when the next batch begins. */
  regain(pieces: readonly MappedPiece[]): Observable<unknown>;
}

/** The right to be asked; given back when the holder is done for good. */
export interface Hold {
  release(): Call<void>;
}

interface Entry {
  readonly holder: Holder;
  readonly wanted: readonly Area[];
  /** What it has been given and not been asked back. */
  held: readonly Area[];
  /** What it has been asked back and has not let go for certain: asked again before any of it is unmapped, given anew by the next offer. */
  asked: readonly Area[];
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

  /** How many there are, whatever they have. */
  get size(): number {
    return this.#entries.size;
  }

  /** Somebody has an area, or was asked for one and has not let go. */
  get inUse(): boolean {
    return [...this.#entries].some(({ held, asked }) => held.length + asked.length > 0);
  }

  /** Takes a holder in and hands it what is mapped of what it wants; emits the hold then. Who fails or leaves before that is asked to let go. */
  hold(holder: Holder, wanted: readonly Area[], pieces: readonly MappedPiece[], budgetMs: number): Call<Hold> {
    return defer(() => {
      const entry = this.#enter(holder, wanted);
      const remove = (): void => void this.#entries.delete(entry);
      let handedOver = false;
      const hold = nowCall((): Hold => {
        handedOver = true;
        return { release: () => nowCall(remove) };
      });
      return concat(this.#offerTo(entry, pieces, budgetMs), hold).pipe(
        finalize(() => {
          if (!handedOver) disregard(concat(this.#ask(entry, entry.held, budgetMs), nowCall(remove)));
        }),
      );
    });
  }

  /** Takes a holder in, with nothing in its hands. Returns how to take it out again. */
  add(holder: Holder, wanted: readonly Area[]): () => void {
    const entry = this.#enter(holder, wanted);
    return () => this.#entries.delete(entry);
  }

  /**
   * Asks every holder of a part of `areas` to let go; all at once, each within the budget. Waits for all of them, and fails
   * with VFIO_E_HOLDER of the first that did not.
   */
  release(areas: readonly Area[], budgetMs: number): Observable<never> {
    return defer(() => {
      const failures: unknown[] = [];
      const asked = [...this.#entries].flatMap((entry) => {
        const overlap = intersectAreas([...entry.held, ...entry.asked], areas);
        return overlap.length === 0 ? [] : [this.#ask(entry, overlap, budgetMs)];
      });
      const settled = asked.map((one) =>
        one.pipe(
          catchError((error: unknown) => {
            failures.push(error);
            return EMPTY;
          }),
        ),
      );
      // merge, not forkJoin: that one ends with the first of these, since none of them has a value.
      return concat(merge(...settled), defer(() => (failures.length === 0 ? EMPTY : throwError(() => failures[0]))));
    });
  }

  /** Tells the holders who want them of pieces that are mapped and that they do not have. */
  regain(pieces: readonly MappedPiece[], budgetMs: number): Observable<never> {
    return merge(...[...this.#entries].map((entry) => this.#offerTo(entry, pieces, budgetMs)));
  }

  #enter(holder: Holder, wanted: readonly Area[]): Entry {
    const entry: Entry = { holder, wanted, held: [], asked: [] };
    this.#entries.add(entry);
    return entry;
  }

  #ask(entry: Entry, areas: readonly Area[], budgetMs: number): Observable<never> {
    return defer(() => {
      if (areas.length === 0) return EMPTY;
      entry.held = subtractAreas(entry.held, areas);
      entry.asked = normalizeAreas([...entry.asked, ...areas]);
      const gone = nowCall(() => (entry.asked = subtractAreas(entry.asked, areas))).pipe(ignoreElements());
      return concat(this.#within(defer(() => entry.holder.release(areas)), entry.holder, 'release', budgetMs), gone);
    });
  }

  #offerTo(entry: Entry, pieces: readonly MappedPiece[], budgetMs: number): Observable<never> {
    return defer(() => {
      const fresh = intersectAreas(subtractAreas(entry.wanted, entry.held), pieces.map((piece) => piece.area));
      if (fresh.length === 0) return EMPTY;
      entry.held = normalizeAreas([...entry.held, ...fresh]);
      const mine = pieces.flatMap((piece) => cut(piece, fresh));
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
        first: timerMs(budgetMs),
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
