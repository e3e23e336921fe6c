import { ask, type Asker, type Leave } from '../devices/call.js';
import type { Call } from '../devices/port.js';

/** Who takes what is pulled, until it leaves or is told of the end. What `took` or `ended` throws is a failure. */
export interface Taker<T> {
  took(value: T): void;
  /** There is no more. */
  ended(): void;
  failed(error: unknown): void;
}

/** Makes a call again and again, one at a time, until it answers undefined. Calls that answer at once make a loop, not a stack. */
export function pull<T>(call: () => Call<T | undefined>, taker: Taker<T>): Leave {
  const pulling = new Pulling(call, taker);
  pulling.next();
  return () => pulling.stop();
}

class Pulling<T> implements Asker<T | undefined> {
  closed = false;
  private readonly call: () => Call<T | undefined>;
  private readonly taker: Taker<T>;
  private leave: Leave | undefined;
  private looping = false;
  private again = false;

  constructor(call: () => Call<T | undefined>, taker: Taker<T>) {
    this.call = call;
    this.taker = taker;
  }

  next(): void {
    this.again = true;
    if (this.looping) return;
    this.looping = true;
    while (this.again && !this.closed) {
      this.again = false;
      this.leave = ask(this.call(), this);
    }
    this.looping = false;
    if (this.closed) this.leave?.();
  }

  stop(): void {
    this.closed = true;
    this.leave?.();
  }

  answered(value: T | undefined): void {
    if (this.closed) return;
    try {
      if (value === undefined) {
        this.taker.ended();
        this.closed = true;
      } else {
        this.taker.took(value);
      }
    } catch (error) {
      this.failed(error);
    }
    this.next();
  }

  failed(error: unknown): void {
    if (this.closed) return;
    this.closed = true;
    this.taker.failed(error);
  }
}
