import { Observable, Subject } from 'rxjs';
import { ask, directCall, type Asker } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import { VfioError } from '../errors.js';
import { linkError, type Connection } from '../transport/transport.js';
import { FrameDecoder } from '../wire/frame-decoder.js';
import { MessageEncoder, messageOf, type Message } from '../wire/message.js';
import type { MessageOrder } from '../wire/message-order.js';
import { pull } from './pull.js';

interface Sending {
  readonly message: Message;
  /** Who wants to know. */
  asker: Asker<void> | undefined;
}

/** Messages over one connection: checked as they come, and sent one after the other. */
export class Link {
  readonly #connection: Connection;
  readonly #order: MessageOrder;
  readonly #encoder = new MessageEncoder();
  readonly #decoder = new FrameDecoder();
  /** Bounded by its users: each device, and each control message, waits for its own. */
  readonly #queue: Sending[] = [];
  #writing = false;
  #looping = false;
  #closing = false;
  readonly #closed = new Subject<never>();
  #failed: unknown;

  constructor(connection: Connection, order: MessageOrder) {
    this.#connection = connection;
    this.#order = order;
  }

  /**
   * What the other side says; subscribed once, for as long as the link lives. Never completes: fails with VFIO_E_STREAM at the first
   * message that is not as it should be, and with VFIO_E_LINK where the other side ends.
   */
  get messages(): Observable<Message> {
    return new Observable<Message>((subscriber) => {
      return pull(() => this.#connection.read(this.#decoder.room)).subscribe({
        next: (bytes) => {
          try {
            this.#decoder.push(bytes, (frame) => {
              if (subscriber.closed) return;
              const message = messageOf(frame);
              this.#order.accept(message);
              subscriber.next(message);
            });
          } catch (error) {
            subscriber.error(error);
          }
        },
        error: (error: unknown) => subscriber.error(error),
        complete: () => {
          try {
            this.#decoder.end();
            subscriber.error(linkError(this.#connection.name, 'the other side has ended the connection'));
          } catch (error) {
            subscriber.error(error);
          }
        },
      });
    });
  }

  /** Bytes of a message of data that nobody needs any more. */
  giveBack(bytes: Uint8Array): void {
    this.#decoder.giveBack(bytes);
  }

  /** Answers when there is room for more. Unsubscribing before its turn takes it back. Fails with VFIO_E_LINK. */
  send(message: Message): Call<void> {
    return directCall((asker: Asker<void>) => {
      if (this.#failed !== undefined || this.#closing) {
        asker.failed(this.#failed ?? linkError(this.#connection.name, 'the connection is closed'));
        return undefined;
      }
      const sending: Sending = { message, asker };
      this.#queue.push(sending);
      this.#write();
      return () => {
        sending.asker = undefined;
        const place = this.#queue.indexOf(sending);
        if (place >= 0) this.#queue.splice(place, 1);
      };
    });
  }

  /** For a message whose loss is heard from elsewhere. */
  say(message: Message): void {
    if (this.#failed !== undefined || this.#closing) return;
    this.#queue.push({ message, asker: undefined });
    this.#write();
  }

  get closed(): Observable<never> {
    return this.#closed;
  }

  /** Closes when what was said is sent; `closed` completes then. */
  close(): void {
    this.#closing = true;
    this.#write();
  }

  /** Closes now: a peer that takes nothing any more holds nobody up. */
  abandon(): void {
    this.#queue.length = 0;
    this.#end();
  }

  /** A connection that has room answers at once: a loop, not a stack as deep as the queue. */
  #write(): void {
    if (this.#looping) return;
    this.#looping = true;
    for (let sending; !this.#writing && (sending = this.#queue.shift()) !== undefined; ) this.#writeOne(sending);
    this.#looping = false;
    if (this.#closing && !this.#writing) this.#end();
  }

  #writeOne(sending: Sending): void {
    this.#writing = true;
    let parts: readonly Uint8Array[];
    try {
      parts = this.#encoder.encode(sending.message);
    } catch (error) {
      this.#fail(sending, error);
      return;
    }
    ask(this.#connection.write(parts), {
      closed: false,
      failed: (error) => this.#fail(sending, error),
      answered: () => {
        this.#writing = false;
        sending.asker?.answered();
        this.#write();
      },
    });
  }

  #fail(sending: Sending, error: unknown): void {
    this.#writing = false;
    this.#failed = VfioError.is(error) ? error : linkError(this.#connection.name, 'it cannot be written', error);
    for (const { asker } of [sending, ...this.#queue.splice(0)]) asker?.failed(this.#failed);
    this.#end();
  }

  #end(): void {
    this.#connection.close();
    this.#closed.complete();
  }
}
