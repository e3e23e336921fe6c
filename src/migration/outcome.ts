import { Observable, Subject, take, type Subscriber } from 'rxjs';
import { VfioError } from '../errors.js';
import type { Transport } from '../transport/transport.js';
import type { DeviceProgress, InDoubt, MigrationEvent, Moved, Resolution } from './plan.js';

/** What a side in doubt can do. */
export interface WaysOut {
  readonly ask: (transport: Transport | undefined) => Observable<unknown>;
  readonly giveUp?: Observable<unknown>;
}

/** How a migration ends, for whoever subscribed it and for whoever resolves it later. */
export class Outcome {
  readonly #out: Subscriber<MigrationEvent>;
  /** The end of an attempt to resolve: an error where it is still in doubt. */
  readonly #resolutions = new Subject<Resolution | VfioError>();
  #end: Resolution | undefined;
  #resolving = false;

  constructor(out: Subscriber<MigrationEvent>) {
    this.#out = out;
  }

  tell(event: MigrationEvent): void {
    this.#out.next(event);
  }

  moved(event: Moved): void {
    this.#out.next(event);
    this.#out.complete();
    this.#ended('moved');
  }

  notMoved(error: VfioError): void {
    this.#out.error(error);
    this.#ended('not-moved');
  }

  #ended(end: Resolution): void {
    this.#end = end;
    this.#resolutions.next(end);
  }

  doubt(at: { readonly atNs: bigint; readonly devices: readonly DeviceProgress[]; readonly because: VfioError }, ways: WaysOut): void {
    const { ask, giveUp } = ways;
    const event: InDoubt = {
      phase: 'in-doubt', decision: 'source', ...at, resolve: (transport) => this.#resolve(ask(transport)),
      ...(giveUp === undefined ? {} : { giveUp: () => this.#resolve(giveUp) }),
    };
    // First those that tried before: whoever is told may try anew at once.
    this.#resolutions.next(new VfioError('VFIO_E_IN_DOUBT', 'still in doubt: try again', { operation: 'resolve', cause: at.because }));
    this.#out.next(event);
    this.#out.complete();
  }

  /** One attempt at a time; what is known is not asked again. */
  #resolve(asked: Observable<unknown>): Observable<Resolution> {
    return new Observable<Resolution>((subscriber) => {
      if (this.#end !== undefined) {
        subscriber.next(this.#end);
        subscriber.complete();
        return;
      }
      if (this.#resolving) {
        subscriber.error(new VfioError('VFIO_E_BUSY', 'it is being resolved already', { operation: 'resolve' }));
        return;
      }
      this.#resolving = true;
      subscriber.add(() => (this.#resolving = false));
      subscriber.add(this.#resolutions.pipe(take(1)).subscribe({
        next: (end) => {
          if (VfioError.is(end)) subscriber.error(end);
          else subscriber.next(end);
          subscriber.complete();
        },
        error: (error: unknown) => subscriber.error(error),
      }));
      subscriber.add(asked.subscribe({ error: (error: unknown) => subscriber.error(error) }));
    });
  }
}
