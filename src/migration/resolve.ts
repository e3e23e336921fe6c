import { concatMap, Observable, Subscription, throwError, timer, type Subscriber } from 'rxjs';
import { untilAborted, type Abortable } from '../abort.js';
import { realClock, timerMs, type Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import type { Connection, Transport } from '../transport/transport.js';
import { destinationAfterRestart, destinationStep, type DestinationAct, type DestinationEvent, type DestinationPhase } from '../wire/handover-destination.js';
import { sourceAfterRestart, sourceStep, type SourceAct, type SourceEvent, type SourcePhase } from '../wire/handover-source.js';
import { commonVersion, formatVersions, incompatible, requireAnswer } from '../wire/hello.js';
import { MessageOrder } from '../wire/message-order.js';
import type { Message } from '../wire/message.js';
import { Handover } from './handover.js';
import type { Journal, JournalEntry } from './journal.js';
import { Link } from './link.js';
import { defaultDeadlines, type Resolution } from './plan.js';

/** What a side that was started again knows. */
export interface ResolvePlan extends Abortable {
  readonly journal: Journal;
  /** The source connects, the destination listens. */
  readonly transport: Transport;
  readonly clock?: Clock;
  /** How long the other side may take to say what is so, once it is there, ms. Default 10,000. */
  readonly deadlineMs?: number;
}

/**
 * Ends a migration whose process died, from the journal that it left: asks, or tells, the other side over a new connection.
 *
 * ```
 * source, died after its decision       says COMMIT again -> moved, or takes back where the destination never ran
 * source, died before it                says abort        -> not-moved
 * destination, died prepared            promises not to run -> not-moved
 * destination, died when it had begun   confirms          -> moved
 * ```
 *
 * The devices died with their process: whoever is said to have them opens them anew. A process that lives resolves by its own event.
 *
 * - **Emits** `moved` or `not-moved`; then **completes**. **Drops** nothing.
 * - **Fails** with VFIO_E_JOURNAL (nothing stands there), VFIO_E_LINK, VFIO_E_INCOMPATIBLE (the other side came about another migration),
 *   VFIO_E_DEADLINE, VFIO_E_IN_DOUBT, by `signal` VFIO_E_ABORTED; it can be tried again.
 * - **Releases** on unsubscribe: the connection.
 *
 * @example
 * resolve({ journal: fileJournal('vf0.journal'), transport: connectTo('tcp://192.0.2.7:4444') }).subscribe(console.log);
 * @see migrate, receive
 */
export function resolve(plan: ResolvePlan): Observable<Resolution> {
  return plan.journal.read().pipe(
    concatMap((entry) => {
      if (entry !== undefined) return new Observable<Resolution>((subscriber) => new Resolver(plan, entry, subscriber).start());
      return throwError(() => new VfioError('VFIO_E_JOURNAL', 'nothing stands there: there was no migration', { operation: 'resolve', device: plan.journal.name }));
    }),
    untilAborted(plan.signal, { operation: 'resolve', device: plan.journal.name }),
  );
}

type SourceEntry = JournalEntry & { readonly side: 'source' };
type DestinationEntry = JournalEntry & { readonly side: 'destination' };

class Resolver {
  readonly #plan: ResolvePlan;
  readonly #entry: JournalEntry;
  readonly #out: Subscriber<Resolution>;
  readonly #all = new Subscription();
  #link: Link | undefined;
  /** Records that are being written: what they are about has been heard, so the connection is not needed any more. */
  #writes = 0;

  constructor(plan: ResolvePlan, entry: JournalEntry, out: Subscriber<Resolution>) {
    this.#plan = plan;
    this.#entry = entry;
    this.#out = out;
  }

  start(): Subscription {
    const { transport, clock = realClock } = this.#plan;
    const talk = (connection: Connection): void => (this.#entry.side === 'source' ? this.#asSource(connection, this.#entry) : this.#asDestination(connection, this.#entry));
    this.#all.add(transport.open(clock).subscribe({
      next: (connection) => {
        this.#all.add(this.#deadline(clock));
        talk(connection);
      },
      error: (error: unknown) => this.#fail(error),
    }));
    this.#all.add(() => this.#link?.close());
    return this.#all;
  }

  #deadline(clock: Clock): Subscription {
    const late = (): void => this.#fail(new VfioError('VFIO_E_DEADLINE', 'the other side did not say what is so in time', { operation: 'resolve' }));
    return timer(timerMs(this.#plan.deadlineMs ?? defaultDeadlines.commit), clock.scheduler).subscribe({ next: late, error: late });
  }

  #asSource(connection: Connection, entry: SourceEntry): void {
    const handover = new Handover<SourcePhase, SourceEvent, SourceAct>(sourceAfterRestart(entry.record), sourceStep, (act) => {
      if (act.act === 'record') this.#record({ ...entry, record: act.record }, (event) => handover.post(event));
      else if (act.act === 'send') this.#link?.say(act.message === 'commit' ? { type: 'commit' } : { type: 'abort', reason: { code: 'VFIO_E_ABORTED', message: 'the source died before it had decided' } });
      else if (act.act === 'doubt') this.#doubt();
      else if (act.act === 'run') this.#end('not-moved');
      else this.#record({ ...entry, record: 'moved' }, () => this.#end('moved'));
    });
    const hear = (message: Message): void => {
      if (message.type === 'welcome') {
        requireAnswer(message.welcome, { versions: [...formatVersions], migration: entry.migration });
        handover.post('connected');
      }
      else if (message.type === 'confirmed' && handover.phase === 'moved') this.#end('moved');
      else if (message.type === 'confirmed' || message.type === 'never-ran') {
        const before = handover.phase;
        handover.post(message.type);
        if (before === 'kept') this.#end('not-moved');
      } else if (message.type === 'abort') this.#fail(new VfioError('VFIO_E_PEER', message.reason.message, { operation: 'resolve' }));
    };
    this.#talk(connection, new MessageOrder('destination', { devices: 0, resolving: true }), hear, () => handover.post('lost'));
    this.#link?.say({ type: 'hello', hello: { protocol: 'vfio-rx migration', versions: [...formatVersions], migration: entry.migration, purpose: 'resolve', devices: [] } });
  }

  #asDestination(connection: Connection, entry: DestinationEntry): void {
    const handover = new Handover<DestinationPhase, DestinationEvent, DestinationAct>(destinationAfterRestart(entry.record), destinationStep, (act) => {
      if (act.act === 'record') this.#record({ ...entry, record: act.record }, (event) => handover.post(event));
      else if (act.act === 'doubt') this.#doubt();
      else if (act.act === 'send') {
        this.#link?.say({ type: act.message === 'confirmed' ? 'confirmed' : 'never-ran' });
        this.#end(act.message === 'confirmed' ? 'moved' : 'not-moved');
      }
    });
    const hear = (message: Message): void => {
      if (message.type === 'hello') {
        const version = commonVersion(message.hello.versions);
        if (message.hello.purpose !== 'resolve' || message.hello.migration !== entry.migration) throw incompatible('the source came about another migration');
        this.#link?.say({ type: 'welcome', welcome: { version, migration: entry.migration, windowBytes: 1, chunkBytes: 1 } });
        handover.post('connected');
      } else if (message.type === 'commit' || message.type === 'abort') handover.post(message.type);
    };
    this.#talk(connection, new MessageOrder('source'), hear, () => handover.post('lost'));
  }

  #talk(connection: Connection, order: MessageOrder, hear: (message: Message) => void, lost: () => void): void {
    this.#link = new Link(connection, order);
    this.#all.add(this.#link.listen({
      heard: (message) => {
        try {
          hear(message);
        } catch (error) {
          this.#fail(error);
        }
      },
      failed: (error) => {
        if (this.#writes > 0) return;
        lost();
        this.#fail(error);
      },
    }));
  }

  #record(entry: JournalEntry, told: (event: 'recorded' | 'not-recorded') => void): void {
    this.#writes += 1;
    const written = (event: 'recorded' | 'not-recorded') => (): void => {
      this.#writes -= 1;
      told(event);
    };
    this.#plan.journal.write(entry).subscribe({ error: written('not-recorded'), complete: written('recorded') });
  }

  #doubt(): void {
    this.#fail(new VfioError('VFIO_E_IN_DOUBT', 'still in doubt: try again', { operation: 'resolve' }));
  }

  #fail(error: unknown): void {
    this.#out.error(error);
  }

  #end(resolution: Resolution): void {
    this.#out.next(resolution);
    this.#out.complete();
  }
}
