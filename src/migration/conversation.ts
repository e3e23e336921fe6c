import { concatMap, defer, EMPTY, filter, map, merge, Observable, race, Subject, Subscription, take, tap, timer } from 'rxjs';
import { timerMs, type Clock } from '../clock.js';
import { VfioError } from '../errors.js';
import type { Connection, Transport } from '../transport/transport.js';
import { formatVersions, requireAnswer, type Hello, type Welcome } from '../wire/hello.js';
import { MessageOrder } from '../wire/message-order.js';
import type { Message, MessageType } from '../wire/message.js';
import { Link } from './link.js';

/** How long the last words may take to be sent, ms. */
const lingerMs = 5000;

/** What one side does with what it hears. */
export interface Ears {
  /** Every message. What it throws is the failure of this side. */
  readonly hear: (message: Message) => void;
  readonly lost: (error: unknown) => void;
  readonly fail: (error: unknown) => void;
}

/** One side's connection to the other: at most one at a time, and a new one where a migration is resolved. */
export class Conversation {
  readonly #clock: Clock;
  readonly #ears: Ears;
  readonly #heard = new Subject<Message>();
  #listening = new Subscription();
  #link: Link | undefined;

  constructor(clock: Clock, ears: Ears) {
    this.#clock = clock;
    this.#ears = ears;
  }

  /** The connection that there is. Throws VFIO_E_LINK. */
  get link(): Link {
    if (this.#link === undefined) throw new VfioError('VFIO_E_LINK', 'there is no connection', { operation: 'migration' });
    return this.#link;
  }

  /** Connects and says hello; emits the welcome. */
  connect(transport: Transport, { migration, purpose, devices }: Pick<Hello, 'migration' | 'purpose' | 'devices'>): Observable<Welcome> {
    return transport.open(this.#clock).pipe(
      concatMap((connection) => {
        const order = new MessageOrder('destination', { devices: devices.length, resolving: purpose === 'resolve' });
        const hello: Hello = { protocol: 'vfio-rx migration', versions: [...formatVersions], migration, purpose, devices: [...devices] };
        return merge(this.#listen(connection, order, 'welcome'), defer(() => {
          this.say({ type: 'hello', hello });
          return EMPTY;
        }));
      }),
      map(({ welcome }) => {
        requireAnswer(welcome, { versions: [...formatVersions], migration });
        return welcome;
      }),
    );
  }

  /** Listens on a connection that was made from the other side; emits its hello. */
  listen(connection: Connection): Observable<Hello> {
    return this.#listen(connection, new MessageOrder('source'), 'hello').pipe(map(({ hello }) => hello));
  }

  /** An attempt to meet the other side again: where it fails, or is given up, no connection is left. */
  attempt(meeting: Observable<unknown>): Observable<unknown> {
    const end = (): void => this.hangUp();
    return defer(() => {
      this.hangUp();
      return meeting.pipe(tap({ error: end, unsubscribe: end }));
    });
  }

  /** The next message of this type. */
  hears<T extends Exclude<MessageType, 'data'>>(type: T): Observable<Extract<Message, { readonly type: T }>> {
    return this.#heard.pipe(filter((message): message is Extract<Message, { readonly type: T }> => message.type === type), take(1));
  }

  /** For a message whose loss is heard as the loss of the connection. */
  say(message: Message): void {
    this.#link?.say(message);
  }

  /** Calls when so much time has passed, unless the connection has ended before. */
  after(ms: number, act: () => void): void {
    this.#listening.add(timer(timerMs(ms), this.#clock.scheduler).subscribe({ next: act, error: (error: unknown) => this.#ears.fail(error) }));
  }

  /** Hears nothing any more; what was said is still sent. */
  hangUp(): void {
    this.#listening.unsubscribe();
    const link = this.#link;
    this.#link = undefined;
    if (link === undefined) return;
    // Listened to first: it may be closed at once.
    race(timer(timerMs(lingerMs), this.#clock.scheduler), link.closed).subscribe({ next: () => link.abandon(), error: () => link.abandon() });
    link.close();
  }

  #listen<T extends Exclude<MessageType, 'data'>>(connection: Connection, order: MessageOrder, first: T): Observable<Extract<Message, { readonly type: T }>> {
    return new Observable<Extract<Message, { readonly type: T }>>((subscriber) => {
      const link = new Link(connection, order);
      this.#link = link;
      subscriber.add(this.hears(first).subscribe(subscriber));
      this.#listening = new Subscription();
      this.#listening.add(link.listen({
        heard: (message) => {
          try {
            this.#ears.hear(message);
          } catch (error) {
            this.#ears.fail(error);
            return;
          }
          if (message.type !== 'data') this.#heard.next(message);
        },
        failed: (error) => this.#ears.lost(error),
      }));
    });
  }
}
