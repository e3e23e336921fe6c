import type { Subscription } from 'rxjs';
import { AckSums } from './ack-sums.js';
import type { Errno } from './errno.js';
import { returned } from './errno.js';
import type { SoftEventfd } from './eventfd.js';
import type { Faults } from './faults.js';
import type { Timers } from './timers.js';
import type { Trace } from './trace.js';

export type RemapRole = 'trigger' | 'ack';

/** One demand for an ack. */
interface Wait {
  /** Undefined while its own signal is held back: no ack is judged against a target that is not sent. */
  target: bigint | undefined;
  readonly deadline: Subscription;
  readonly done: (errno: Errno | undefined) => void;
}

export interface RemapIrqSurroundings {
  readonly ackTimeoutMs: number;
  readonly timers: () => Timers;
  readonly faults: Faults;
  readonly trace: Trace;
  /** True where the eventfd serves another irq of the device already. */
  readonly inUse: (eventfd: SoftEventfd) => boolean;
  readonly signalled: (count: bigint) => void;
  readonly overAcked: (value: bigint) => void;
}

/** A doorbell: each signal adds this. */
const doorbell = 1n;

/**
 * The remap irq from the driver's side: its two eventfds, the sums of the `value` ack, and the wait for an ack.
 *
 * The driver never reads the trigger eventfd. It empties the ack eventfd as each write arrives, which is how it learns the
 * number. All of a step (sums, target, the wait's activation) is done before anything is added: nobody sees half of it.
 */
export class RemapIrq {
  readonly #around: RemapIrqSurroundings;
  #trigger: SoftEventfd | undefined;
  #ack: SoftEventfd | undefined;
  #sums = new AckSums();
  #wait: Wait | undefined;

  constructor(around: RemapIrqSurroundings) {
    this.#around = around;
  }

  /** Enabled: only with both eventfds does the irq count as registered. */
  get complete(): boolean {
    return this.#trigger !== undefined && this.#ack !== undefined;
  }

  /** How many are registered. */
  get eventfds(): number {
    return (this.#trigger === undefined ? 0 : 1) + (this.#ack === undefined ? 0 : 1);
  }

  get waiting(): boolean {
    return this.#wait !== undefined;
  }

  get sent(): bigint {
    return this.#sums.sent;
  }

  get acked(): bigint {
    return this.#sums.acked;
  }

  holds(eventfd: SoftEventfd): boolean {
    return this.#trigger === eventfd || this.#ack === eventfd;
  }

  /** SET_IRQS with one eventfd. What was there in this role goes first; where this one is refused the role stays empty. */
  register(role: RemapRole, eventfd: SoftEventfd): Errno | undefined {
    if (role === 'trigger' && this.#trigger !== undefined) this.disable();
    if (role === 'ack' && this.#ack !== undefined) this.#dropAck();
    // An old count would be taken for signals, or for acks, of this registration.
    if (eventfd.count !== 0n) return 'EBUSY';
    // A semaphore's reads say 1 whatever was written; one eventfd in both roles would ack itself.
    if (role === 'ack' && eventfd.semaphore) return 'EINVAL';
    if (this.holds(eventfd) || this.#around.inUse(eventfd)) return 'EINVAL';
    this.#sums = new AckSums();
    if (role === 'trigger') {
      this.#trigger = eventfd;
      eventfd.listen({ written: () => undefined, hungUp: () => { this.disable(); } });
    } else {
      this.#ack = eventfd;
      eventfd.listen({ written: () => { this.#heard(eventfd); }, hungUp: () => { this.#dropAck(); } });
    }
    this.#around.trace.add('register', { role });
    return undefined;
  }

  /** DATA_NONE, count 0: both eventfds go, and a wait fails at once. */
  disable(): void {
    if (this.#trigger !== undefined) {
      this.#trigger.listen(undefined);
      this.#trigger = undefined;
      this.#around.trace.add('unregister', { role: 'trigger' });
    }
    this.#dropAck();
  }

  /** Adds one doorbell, where somebody is registered. With `done` the driver waits for its ack. */
  signal(done?: (errno: Errno | undefined) => void): void {
    if (!this.complete) {
      done?.('EPERM');
      return;
    }
    const adds = this.#sums.signal(doorbell);
    if (done !== undefined) {
      const deadline = this.#around.timers().afterMs(this.#around.ackTimeoutMs, () => { this.fail('ETIMEDOUT'); });
      this.#wait = { target: this.#sums.target, deadline, done };
    }
    this.#add(adds);
    if (done !== undefined) this.#around.trace.add('wait', { target: this.#wait?.target ?? -1n });
  }

  /** Ends the wait, if there is one, with this errno. */
  fail(errno: Errno): void {
    this.#end(errno);
  }

  #end(errno: Errno | undefined): void {
    const wait = this.#wait;
    if (wait === undefined) return;
    this.#wait = undefined;
    wait.deadline.unsubscribe();
    this.#around.trace.add('release', { ret: returned(errno) });
    wait.done(errno);
  }

  #dropAck(): void {
    if (this.#ack !== undefined) {
      this.#ack.listen(undefined);
      this.#ack = undefined;
      this.#around.trace.add('unregister', { role: 'ack' });
    }
    this.fail('ECANCELED');
  }

  #heard(ack: SoftEventfd): void {
    const value = ack.read();
    if (value === undefined) return;
    this.#around.trace.add('ack', { value });
    if (this.#around.faults.ignoreAcks) return;
    if (!this.#sums.acknowledge(value)) this.#around.overAcked(value);
    const target = this.#wait?.target;
    if (target !== undefined && this.#sums.covers(target)) this.#end(undefined);
    const adds = this.#sums.flush();
    if (this.#wait !== undefined) this.#wait.target ??= this.#sums.target;
    this.#add(adds);
  }

  #add(adds: readonly bigint[]): void {
    const trigger = this.#trigger;
    if (trigger === undefined) return;
    for (const count of adds) {
      const add = (): void => {
        if (this.#trigger !== trigger) return;
        this.#around.trace.add('signal', { add: count });
        this.#around.signalled(count);
        trigger.add(count);
      };
      const { signalDelayUs } = this.#around.faults;
      if (signalDelayUs > 0) this.#around.timers().afterUs(signalDelayUs, add);
      else add();
    }
  }
}
