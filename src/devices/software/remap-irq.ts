import type { Subscription } from 'rxjs';
import { ackRuleOf, type AckRule } from './ack-rules.js';
import type { Errno } from './errno.js';
import { returned } from './errno.js';
import { outsideCallbacks, type SoftEventfd } from './eventfd.js';
import type { Faults } from './faults.js';
import type { PageShape, RemapShape } from './remap-shape.js';
import type { Timers } from './timers.js';
import type { Trace } from './trace.js';

export type RemapRole = 'trigger' | 'ack';

/** One demand for an ack. */
interface Wait {
  readonly deadline: Subscription | undefined;
  readonly done: (errno: Errno | undefined) => void;
}

export interface RemapIrqSurroundings {
  readonly shape: RemapShape;
  readonly timers: () => Timers;
  readonly faults: Faults;
  readonly trace: Trace;
  /** How a wait fails that cannot begin, for want of a registration. */
  readonly refusal: Errno;
  /** True where the eventfd serves another irq of the device already. */
  readonly inUse: (eventfd: SoftEventfd) => boolean;
  /** Whether nothing of the page is mapped that its layout does not offer. */
  readonly allGone: (page: number) => boolean;
  readonly signalled: (count: bigint) => void;
  readonly overAcked: (value: bigint) => void;
}

/** A doorbell: each signal adds this. */
const doorbell = 1n;

/**
 * The remap irq of one page from the driver's side: its eventfds, and the wait for an ack; when a wait has ended is the
 * rule's to say, see `AckRule`.
 *
 * The driver never reads the trigger eventfd. It empties the ack eventfd as each write arrives, which is how it learns the
 * number. All of a step (sums, target, the wait's activation) is done before anything is added: nobody sees half of it.
 */
export class RemapIrq {
  readonly page: number;
  readonly irqIndex: number;
  readonly #regions: bigint;
  readonly #around: RemapIrqSurroundings;
  readonly #withAckFd: boolean;
  #trigger: SoftEventfd | undefined;
  #ack: SoftEventfd | undefined;
  #rule: AckRule;
  #wait: Wait | undefined;
  /** For the driver that drains at every second one. */
  #acksHeard = 0;

  constructor({ page, irqIndex, regions }: PageShape, around: RemapIrqSurroundings) {
    this.page = page;
    this.irqIndex = irqIndex;
    this.#regions = regions;
    this.#around = around;
    this.#withAckFd = around.shape.profile === 'region-remap' && around.shape.ack === 'value';
    this.#rule = this.#newRule();
  }

  /** Enabled: only with all its eventfds does the irq count as registered. */
  get complete(): boolean {
    return this.#trigger !== undefined && (this.#ack !== undefined || !this.#withAckFd);
  }

  /** How many are registered. */
  get eventfds(): number {
    return (this.#trigger === undefined ? 0 : 1) + (this.#ack === undefined ? 0 : 1);
  }

  get waiting(): boolean {
    return this.#wait !== undefined;
  }

  get sent(): bigint {
    return this.#rule.sent;
  }

  get acked(): bigint {
    return this.#rule.acked;
  }

  holds(eventfd: SoftEventfd): boolean {
    return this.#trigger === eventfd || this.#ack === eventfd;
  }

  /** SET_IRQS with one eventfd. What was there in this role goes first; where this one is refused the role stays empty. */
  register(role: RemapRole, eventfd: SoftEventfd): Errno | undefined {
    if (role === 'ack' && !this.#withAckFd) return 'ENOTTY';
    if (role === 'trigger' && this.#trigger !== undefined) this.drop();
    if (role === 'ack' && this.#ack !== undefined) this.#dropAck();
    // An old count would be taken for signals, or for acks, of this registration.
    if (eventfd.count !== 0n) return 'EBUSY';
    // A semaphore's reads say 1 whatever was written, and are no sign that all was read; one eventfd in both roles would ack itself.
    if (eventfd.semaphore && (role === 'ack' || this.#around.shape.profile === 'rfc-v4')) return 'EINVAL';
    if (this.holds(eventfd) || this.#around.inUse(eventfd)) return 'EINVAL';
    this.#rule = this.#newRule();
    if (role === 'trigger') {
      this.#trigger = eventfd;
      eventfd.listen({
        added: () => { this.#added(eventfd); },
        // In rfc-v4 that is the ack; elsewhere a user that writes there fools only itself.
        written: () => { if (this.#around.shape.profile === 'rfc-v4') this.#heard(0n); },
        read: () => { this.#rule.read(); },
        hungUp: () => { this.disable(); },
      });
    } else {
      this.#ack = eventfd;
      // The value is in the count only now: another write would add to it.
      eventfd.listen({ written: () => { this.#heard(eventfd.take()); }, hungUp: () => { this.#hungUp(); } });
    }
    this.#around.trace.add('register', { role, ...this.#named });
    return undefined;
  }

  /** DATA_NONE, count 0: all eventfds go, and a wait fails at once. */
  disable(): void {
    if (!this.#around.faults.ignoreDisable) this.drop();
  }

  /** What disabling does; the end of the session does it whatever the driver makes of a disable. */
  drop(): void {
    if (this.#trigger !== undefined) {
      this.#trigger.listen(undefined);
      this.#trigger = undefined;
      this.#around.trace.add('unregister', { role: 'trigger', ...this.#named });
    }
    this.#dropAck();
  }

  /** Signals regions, as bits of this page, where somebody is registered. With `done` the driver waits for the ack. */
  signal(regions: bigint, done?: (errno: Errno | undefined) => void): void {
    const { shape, faults, timers, trace, refusal } = this.#around;
    if (!this.complete) {
      done?.(refusal);
      return;
    }
    const bits = this.#bitsFor(regions);
    const adds = [...this.#rule.signal(bits, done !== undefined)];
    if (faults.signalTwice) adds.push(...this.#rule.signal(bits, done !== undefined));
    if (done !== undefined) {
      const { ackTimeoutMs } = shape;
      const deadline = ackTimeoutMs === Infinity ? undefined : timers().afterMs(ackTimeoutMs, () => { this.fail('ETIMEDOUT'); });
      this.#wait = { deadline, done };
    }
    this.#add(adds);
    if (done !== undefined) {
      const { target } = this.#rule;
      trace.add('wait', { ...(target === undefined ? {} : { target }), ...this.#named });
    }
    // There may be nothing to wait for, or not any more: where mappings ack, what is offered again need not go.
    this.settle();
  }

  /** Ends the wait, if it has its answer by now. */
  settle(): void {
    if (this.#wait !== undefined && this.#rule.answered()) this.fail(undefined);
  }

  /** Ends the wait, if there is one, with this errno; undefined: with success. */
  fail(errno: Errno | undefined): void {
    const wait = this.#wait;
    if (wait === undefined) return;
    this.#wait = undefined;
    wait.deadline?.unsubscribe();
    this.#around.trace.add('release', { ret: returned(errno), ...this.#named });
    // The writer wakes up and goes on, and may signal again: not in here.
    outsideCallbacks(() => { wait.done(errno); });
  }

  /** A trace line of page 0 looks as if there were no others. */
  get #named(): { readonly page?: number } {
    return this.page === 0 ? {} : { page: this.page };
  }

  #newRule(): AckRule {
    const { shape, faults, allGone } = this.#around;
    return ackRuleOf(shape, faults, () => allGone(this.page));
  }

  #bitsFor(regions: bigint): bigint {
    const { shape, faults } = this.#around;
    if (faults.addOne) return doorbell;
    if (shape.profile === 'region-remap' && shape.signals === 'doorbell') return doorbell;
    return faults.signalUndeclared ? regions | lowestClear(this.#regions) : regions;
  }

  #hungUp(): void {
    if (!this.#around.faults.ignoreDisable) this.#dropAck();
  }

  #dropAck(): void {
    if (this.#ack !== undefined) {
      this.#ack.listen(undefined);
      this.#ack = undefined;
      this.#around.trace.add('unregister', { role: 'ack', ...this.#named });
    }
    this.fail('ECANCELED');
  }

  #added(trigger: SoftEventfd): void {
    if (this.#around.faults.drain === 'always') trigger.take();
    this.#rule.added();
  }

  #heard(value: bigint): void {
    const { faults, trace, overAcked } = this.#around;
    trace.add('ack', { ...(this.#withAckFd ? { value } : {}), ...this.#named });
    this.#acksHeard += 1;
    if (faults.drain === 'at-ack' || (faults.drain === 'sometimes' && this.#acksHeard % 2 === 0)) this.#trigger?.take();
    if (faults.drain === 'always' && !this.#withAckFd) this.#trigger?.take();
    if (faults.ignoreAcks) return;
    if (!this.#rule.acknowledge(value)) overAcked(value);
    this.settle();
    const adds = this.#rule.flush();
    if (adds.length > 0) outsideCallbacks(() => { this.#add(adds); });
  }

  #add(adds: readonly bigint[]): void {
    const trigger = this.#trigger;
    if (trigger === undefined) return;
    for (const count of adds) {
      const add = (): void => {
        if (this.#trigger !== trigger) return;
        this.#around.trace.add('signal', { add: count, ...this.#named });
        this.#around.signalled(count);
        trigger.add(count);
      };
      const { signalDelayUs } = this.#around.faults;
      if (signalDelayUs > 0) this.#around.timers().afterUs(signalDelayUs, add);
      else add();
    }
  }
}

/** The lowest bit that is not in `bits`; 0 where all 64 are. */
function lowestClear(bits: bigint): bigint {
  for (let bit = 1n; bit < 1n << 64n; bit <<= 1n) {
    if ((bits & bit) === 0n) return bit;
  }
  return 0n;
}
