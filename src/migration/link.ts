import { Subject, type Observable } from 'rxjs';
import { ask, directCall, type Asker, type Leave } from '../devices/call.js';
import type { Call } from '../devices/port.js';
import { VfioError } from '../errors.js';
import { linkError, type Connection } from '../transport/transport.js';
import { FrameDecoder, type CheckedFrame } from '../wire/frame-decoder.js';
import { MessageEncoder, messageOf, type Message } from '../wire/message.js';
import type { MessageOrder } from '../wire/message-order.js';
import { pull } from './pull.js';

interface Sending {
  readonly message: Message;
  /** Who wants to know. */
  asker: Asker<void> | undefined;
}

/** Who hears what the other side says. Callbacks, not an Observable: there is a message for each chunk. */
export interface LinkEars {
  heard(message: Message): void;
  /** VFIO_E_STREAM at the first message that is not as it should be, VFIO_E_LINK where the other side ends, or what `heard` has thrown. It hears nothing more. */
  failed(error: unknown): void;
}

/** Messages over one connection: checked as they come, and sent one after the other. */
export class Link {
  private readonly connection: Connection;
  private readonly order: MessageOrder;
  private readonly encoder = new MessageEncoder();
  private readonly decoder = new FrameDecoder();
  /** Bounded by its users: each device, and each control message, waits for its own. */
  private readonly queue: Sending[] = [];
  /** What is being written. */
  private writing: Sending | undefined;
  private looping = false;
  private closing = false;
  private readonly closings = new Subject<never>();
  private failure: unknown;

  constructor(connection: Connection, order: MessageOrder) {
    this.connection = connection;
    this.order = order;
  }

  /** Once, for as long as the link lives. */
  listen(ears: LinkEars): Leave {
    let left = false;
    const deliver = (frame: CheckedFrame): void => {
      if (left) return;
      const message = messageOf(frame);
      this.order.accept(message);
      ears.heard(message);
    };
    const stop = pull(() => this.connection.read(this.decoder.room, this.decoder.came), {
      took: (bytes) => this.decoder.push(bytes, deliver),
      ended: () => {
        this.decoder.end();
        throw linkError(this.connection.name, 'the other side has ended the connection');
      },
      failed: (error) => ears.failed(error),
    });
    return () => {
      left = true;
      stop();
    };
  }

  /** Bytes of a message of data that nobody needs any more. */
  giveBack(bytes: Uint8Array): void {
    this.decoder.giveBack(bytes);
  }

  /** Answers when there is room for more. Unsubscribing before its turn takes it back. Fails with VFIO_E_LINK. */
  send(message: Message): Call<void> {
    return directCall((asker: Asker<void>) => {
      const sending = this.post(message, asker);
      return () => {
        sending.asker = undefined;
        const place = this.queue.indexOf(sending);
        if (place >= 0) this.queue.splice(place, 1);
      };
    });
  }

  /** As `send`, for who does not take it back. */
  post(message: Message, asker: Asker<void> | undefined): Sending {
    const sending: Sending = { message, asker };
    if (this.failure !== undefined || this.closing) {
      asker?.failed(this.failure ?? linkError(this.connection.name, 'the connection is closed'));
    } else if (this.looping || this.writing !== undefined || this.queue.length > 0) {
      this.queue.push(sending);
    } else {
      this.looping = true;
      this.writeOne(sending);
      this.looping = false;
      this.write();
    }
    return sending;
  }

  /** For a message whose loss is heard from elsewhere. */
  say(message: Message): void {
    this.post(message, undefined);
  }

  get closed(): Observable<never> {
    return this.closings;
  }

  /** Closes when what was said is sent; `closed` completes then. */
  close(): void {
    this.closing = true;
    this.write();
  }

  /** Closes now: a peer that takes nothing any more holds nobody up. */
  abandon(): void {
    this.queue.length = 0;
    this.end();
  }

  /** A connection that has room answers at once: a loop, not a stack as deep as the queue. */
  private write(): void {
    if (this.looping) return;
    this.looping = true;
    while (this.writing === undefined && this.queue.length > 0) this.writeOne(this.queue.shift() as Sending);
    this.looping = false;
    if (this.closing && this.writing === undefined) this.end();
  }

  private writeOne(sending: Sending): void {
    this.writing = sending;
    try {
      ask(this.connection.write(this.encoder.encode(sending.message)), this.written);
    } catch (error) {
      this.written.failed(error);
    }
  }

  private readonly written: Asker<void> = {
    closed: false,
    answered: () => {
      const asker = this.writing?.asker;
      this.writing = undefined;
      asker?.answered();
      this.write();
    },
    failed: (error) => {
      const sending = this.writing;
      this.writing = undefined;
      this.failure = VfioError.is(error) ? error : linkError(this.connection.name, 'it cannot be written', error);
      for (const waiting of [sending, ...this.queue.splice(0)]) waiting?.asker?.failed(this.failure);
      this.end();
    },
  };

  private end(): void {
    this.connection.close();
    this.closings.complete();
  }
}
