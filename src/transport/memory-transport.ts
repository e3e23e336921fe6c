import { Observable, Subscription } from 'rxjs';
import type { Clock } from '../clock.js';
import type { Call } from '../devices/port.js';
import { linkError, type Connection, type Transport } from './transport.js';

export interface MemoryTransportOptions {
  /** How long bytes travel, ms. Default 0: another turn. */
  readonly latencyMs?: number;
  /** How many bytes may be on their way in one direction before a write waits. Default 1 MiB. */
  readonly capacityBytes?: number;
}

/** Two ends in one process, in virtual and in real time. */
export interface MemoryTransport {
  /** The end that connects. */
  readonly connecting: Transport;
  /** The end that waits for a connection. */
  readonly listening: Transport;
  /** Breaks the connections that there are: both ends fail, and what was on its way is lost. */
  cut(): void;
}

/** A pair of ends; either may be opened first, and again after a connection has ended. */
export function memoryTransport({ latencyMs = 0, capacityBytes = 1 << 20 }: MemoryTransportOptions = {}): MemoryTransport {
  const waiting = { connecting: new Set<(wire: Wire) => void>(), listening: new Set<(wire: Wire) => void>() };
  const wires = new Set<Wire>();
  const end = (own: 'connecting' | 'listening', other: 'connecting' | 'listening'): Transport => ({
    name: 'memory',
    open: (clock) =>
      new Observable<Connection>((subscriber) => {
        const take = (wire: Wire): void => {
          subscriber.next(new MemoryConnection(wire, own === 'connecting' ? 0 : 1));
          subscriber.complete();
        };
        const [partner] = waiting[other];
        if (partner === undefined) {
          waiting[own].add(take);
          return () => waiting[own].delete(take);
        }
        waiting[other].delete(partner);
        const wire = new Wire(clock, latencyMs, capacityBytes);
        wires.add(wire);
        partner(wire);
        take(wire);
        return undefined;
      }),
  });
  return {
    connecting: end('connecting', 'listening'),
    listening: end('listening', 'connecting'),
    cut() {
      // Who hears of it may connect anew at once: that is another connection.
      const now = [...wires];
      wires.clear();
      for (const wire of now) wire.cut();
    },
  };
}

/** Both directions: what end n writes arrives at end 1 - n. */
class Wire {
  readonly clock: Clock;
  readonly ways: readonly [Way, Way];

  constructor(clock: Clock, latencyMs: number, capacityBytes: number) {
    this.clock = clock;
    this.ways = [new Way(clock, latencyMs, capacityBytes), new Way(clock, latencyMs, capacityBytes)];
  }

  cut(): void {
    for (const way of this.ways) way.cut();
  }
}

/** One direction. */
class Way {
  readonly #clock: Clock;
  readonly #latencyMs: number;
  readonly #capacity: number;
  #arrived: Uint8Array[] = [];
  #bytes = 0;
  #ended = false;
  #cut = false;
  readonly #travelling = new Subscription();
  /** Called at every change. */
  readonly #watchers = new Set<() => void>();

  constructor(clock: Clock, latencyMs: number, capacity: number) {
    this.#clock = clock;
    this.#latencyMs = latencyMs;
    this.#capacity = capacity;
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return new Observable<void>((subscriber) => {
      // Copied: the writer may use its bytes again.
      const bytes = Buffer.concat(parts);
      this.#bytes += bytes.length;
      this.#later(() => this.#arrived.push(bytes));
      return this.#when(
        () => this.#cut || this.#ended || this.#bytes < this.#capacity,
        () => {
          if (this.#cut || this.#ended) subscriber.error(linkError('memory', 'the connection is gone'));
          subscriber.next();
          subscriber.complete();
        },
      );
    });
  }

  read(): Call<Uint8Array | undefined> {
    return new Observable<Uint8Array | undefined>((subscriber) =>
      this.#when(
        () => this.#cut || this.#ended || this.#arrived.length > 0,
        () => {
          const bytes = this.#arrived.shift();
          if (bytes === undefined && this.#cut) subscriber.error(linkError('memory', 'the connection is gone'));
          this.#bytes -= bytes?.length ?? 0;
          subscriber.next(bytes);
          subscriber.complete();
          this.#changed();
        },
      ),
    );
  }

  end(): void {
    this.#later(() => (this.#ended = true));
  }

  cut(): void {
    this.#travelling.unsubscribe();
    this.#arrived = [];
    this.#cut = true;
    this.#changed();
  }

  #later(arrive: () => void): void {
    this.#travelling.add(this.#clock.scheduler.schedule(() => {
      arrive();
      this.#changed();
    }, this.#latencyMs));
  }

  #when(ready: () => boolean, act: () => void): () => void {
    const watch = (): void => {
      if (!ready()) return;
      this.#watchers.delete(watch);
      act();
    };
    this.#watchers.add(watch);
    watch();
    return () => this.#watchers.delete(watch);
  }

  #changed(): void {
    for (const watch of [...this.#watchers]) watch();
  }
}

class MemoryConnection implements Connection {
  readonly name = 'memory';
  readonly #wire: Wire;
  readonly #end: 0 | 1;
  #closed = false;

  constructor(wire: Wire, end: 0 | 1) {
    this.#wire = wire;
    this.#end = end;
  }

  read(): Call<Uint8Array | undefined> {
    return this.#wire.ways[this.#end === 0 ? 1 : 0].read();
  }

  write(parts: readonly Uint8Array[]): Call<void> {
    return this.#wire.ways[this.#end].write(parts);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wire.ways[this.#end].end();
  }
}
