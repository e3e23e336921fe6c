import { VfioError, errnoError } from '../../errors.js';
import { EAGAIN, EINTR, epollLayout, errnoName, linux, type EpollBatch, type Watch } from './binding.js';
import { Linger } from './linger.js';
import { linuxSyscalls, type Syscalls } from './syscalls.js';

/**
 * Called once for each `arm`: the eventfd's count (read and so reset to 0), and when the loop took it, CLOCK_MONOTONIC ns.
 * One clock reading serves all signals that one epoll_wait returned.
 */
export type SignalCallback = (count: bigint, atNs: bigint) => void;

/** One eventfd in a reactor. */
export interface ReactorSlot {
  /** Asks for the next signal, once. Armed already: the callbacks are replaced. @throws VfioError `VFIO_E_CLOSED`. */
  arm(callback: SignalCallback, failed?: (error: VfioError) => void): void;
  /** Takes the request back; signals rest in the eventfd's count until the next `arm`. */
  disarm(): void;
  /** Leaves the reactor; twice is fine. The eventfd stays open and is its owner's to close, after this. */
  close(): void;
  readonly armed: boolean;
}

const readiness = { input: linux.EPOLLIN, output: linux.EPOLLOUT, both: linux.EPOLLIN | linux.EPOLLOUT } as const;

export type Readiness = keyof typeof readiness;

/** A fd that is no eventfd: whoever owns it reads and writes it itself when it is told that it can. */
export interface ReadySlot {
  /** Asks to be told once that it can be read, written or either, or is over. Armed already: what was asked is replaced. @throws VfioError `VFIO_E_CLOSED`. */
  arm(ready: () => void, wanted: Readiness): void;
  disarm(): void;
  /** Leaves the reactor; twice is fine. The fd is its owner's to close, after this. */
  close(): void;
  readonly armed: boolean;
}

/** What a reactor has done since it was made. */
export interface ReactorCounters {
  /** Slots now, and of these armed. */
  slots: number;
  armed: number;
  /** Times the event loop was woken by the epoll fd. Stands still while nothing is signalled: there is no polling. */
  wakes: number;
  delivered: number;
  /** Events whose count was already 0: the slot stayed armed. */
  empty: number;
  /** Events for a slot that was closed or disarmed, in the same batch, before its turn came. */
  stale: number;
  failed: number;
}

/** Bounds of a reactor, all of them optional. */
export interface ReactorLimits {
  /** Events per epoll_wait (512). */
  readonly batch?: number;
  /** Signals after which the event loop has its turn (2048). */
  readonly perWake?: number;
  /** The longest wait for the next signal in dense traffic, microseconds (30); 0 turns it off. See `Linger`. */
  readonly lingerUs?: number;
}

const armedEvents = linux.EPOLLIN | linux.EPOLLONESHOT;
const quietEvents = linux.EPOLLONESHOT;
const nothingToRead = BigInt(-EAGAIN);
const interrupted = BigInt(-EINTR);

/**
 * Serves any number of eventfds through one epoll fd on Node's event loop.
 *
 * One-shot: a fd is watched (EPOLLONESHOT) only while its consumer has asked for the next signal, so that an unread
 * signal can neither spin the loop nor pile up callbacks; what came meanwhile is in the count and is delivered by the
 * next `arm`. A delivery costs what a C program with this contract pays, one read and one EPOLL_CTL_MOD when it is
 * armed again, and a share of one epoll_wait.
 *
 * Fair: after `perWake` signals, or a quarter of a millisecond of dense traffic (see `Linger`), the loop has its turn;
 * the epoll fd is level-triggered, so the rest wakes it again at once.
 *
 * An exception of a callback does not stop the batch: it is thrown again from a microtask, hence reported like any
 * uncaught exception. Microtasks and `nextTick`s queued in a callback run in the same turn of the loop, after the batch.
 *
 * The epoll fd exists while there are slots, and keeps the process alive while one of them is armed. A worker thread
 * that uses a reactor closes its slots before it is terminated: Node crashes otherwise.
 */
export class Reactor {
  readonly counters: ReactorCounters = { slots: 0, armed: 0, wakes: 0, delivered: 0, empty: 0, stale: 0, failed: 0 };
  readonly #given: Syscalls | undefined;
  readonly #batch: number;
  readonly #perWake: number;
  readonly #linger: Linger;
  #calls!: Syscalls;
  #slots: (Slot | undefined)[] = [];
  #free: number[] = [];
  /** Never reset while the process lives: an old event must not fit a new slot, whatever happened in between. */
  #generation = 0;
  #epollFd = -1;
  #events: EpollBatch | undefined;
  #watch: Watch | undefined;
  #held = false;
  #dispatching = false;

  /** @param calls default: koffi, loaded at the first `add`. */
  constructor(calls?: Syscalls, limits: ReactorLimits = {}) {
    this.#given = calls;
    this.#batch = limits.batch ?? 512;
    this.#perWake = limits.perWake ?? 2048;
    this.#linger = new Linger(limits.lingerUs ?? 30);
  }

  /** The epoll fd while there are slots, for inspection in /proc/self/fdinfo. */
  get epollFd(): number | undefined {
    return this.#epollFd < 0 ? undefined : this.#epollFd;
  }

  /**
   * Takes a fd in, not armed. The fd stays the caller's, and is closed after the slot.
   *
   * @param shared with another process, which may take O_NONBLOCK off it: it is not waited for
   * @throws VfioError `VFIO_E_LIMIT` (EMFILE for the epoll fd, ENOSPC at fs.epoll.max_user_watches), `VFIO_E_IO`
   *   (EEXIST: the fd is in this reactor already).
   */
  add(fd: number, shared = false): ReactorSlot {
    return this.#add(fd, shared ? 'shared' : 'own');
  }

  /** Takes any other fd in, not armed. @throws as `add`. */
  addReady(fd: number): ReadySlot {
    const slot = this.#add(fd, 'ready');
    return {
      arm: (ready, wanted) => slot.armFor(ready, readiness[wanted]),
      disarm: () => slot.disarm(),
      close: () => slot.close(),
      get armed() {
        return slot.armed;
      },
    };
  }

  #add(fd: number, kind: SlotKind): Slot {
    this.#open();
    const index = this.#free.pop() ?? this.#slots.length;
    this.#generation = (this.#generation + 1) >>> 0;
    const added = this.#calls.binding.epollControl(this.#epollFd, linux.EPOLL_CTL_ADD, fd, quietEvents, index, this.#generation);
    if (added < 0) {
      if (index < this.#slots.length) this.#free.push(index);
      this.#releaseIfUnused();
      throw errnoError(errnoName(added), 'EPOLL_CTL_ADD');
    }
    const slot = new Slot(this.#keeper, fd, index, this.#generation, kind);
    this.#slots[index] = slot;
    this.counters.slots++;
    return slot;
  }

  /** What a slot asks of its reactor. */
  readonly #keeper: SlotKeeper = {
    counters: this.counters,
    watch: (slot, events) => {
      const done = this.#calls.binding.epollControl(this.#epollFd, linux.EPOLL_CTL_MOD, slot.fd, events, slot.index, slot.generation);
      if (done < 0) throw errnoError(errnoName(done), 'EPOLL_CTL_MOD');
      slot.watched = events !== quietEvents;
    },
    armedChanged: () => {
      if (!this.#dispatching) this.#holdLoop();
    },
    remove: (slot) => {
      // The owner may have closed the fd before: then the kernel has dropped it (EBADF, ENOENT), which is what is wanted.
      this.#calls.binding.epollControl(this.#epollFd, linux.EPOLL_CTL_DEL, slot.fd, 0, 0, 0);
      this.#slots[slot.index] = undefined;
      this.#free.push(slot.index);
      this.counters.slots--;
      this.#releaseIfUnused();
    },
  };

  #open(): void {
    if (this.#epollFd >= 0) return;
    this.#calls = this.#given ?? linuxSyscalls();
    this.#epollFd = this.#calls.epollCreate();
    try {
      this.#events ??= this.#calls.binding.epollBatch(this.#batch);
      this.#watch = this.#calls.binding.watch(this.#epollFd, this.#wake);
    } catch (error) {
      this.#calls.close(this.#epollFd);
      this.#epollFd = -1;
      throw error;
    }
    this.#watch.unref();
    this.#held = false;
    // koffi stops a poll handle silently when it is collected.
    open.add(this);
  }

  #releaseIfUnused(): void {
    // Not while a batch is under way: a callback that closes the last slot may well add another.
    if (this.counters.slots > 0 || this.#dispatching || this.#epollFd < 0) return;
    this.#watch?.close();
    this.#watch = undefined;
    const fd = this.#epollFd;
    this.#epollFd = -1;
    this.#slots = [];
    this.#free = [];
    open.delete(this);
    this.#calls.close(fd);
  }

  /** The process stays alive while a signal is being waited for. Within a batch only the outcome counts. */
  #holdLoop(): void {
    const hold = this.counters.armed > 0;
    if (hold === this.#held) return;
    this.#held = hold;
    if (hold) this.#watch?.ref();
    else this.#watch?.unref();
  }

  /** Called by libuv. Nothing may be thrown out of here: it would surface in some unrelated place. */
  readonly #wake = (): void => {
    this.counters.wakes++;
    this.#dispatching = true;
    try {
      this.#serveWake();
    } catch (error) {
      rethrowLater(error);
    } finally {
      this.#dispatching = false;
      this.#holdLoop();
      this.#releaseIfUnused();
    }
  };

  #serveWake(): void {
    const { binding } = this.#calls;
    const events = this.#events;
    if (events === undefined) return;
    let atNs = process.hrtime.bigint();
    let timeoutNs = 0;
    let left = this.#perWake;
    this.#linger.wake(atNs);
    do {
      const ready = binding.epollWait(this.#epollFd, events, timeoutNs);
      if (timeoutNs > 0) {
        this.#linger.waited(ready);
        atNs = process.hrtime.bigint();
      }
      if (ready <= 0) return;
      this.#dispatch(events.words, ready, atNs);
      left -= ready;
      timeoutNs = this.#linger.timeoutNs(atNs);
    } while (timeoutNs > 0 && left > 0 && this.counters.armed > 0);
  }

  #dispatch(words: Uint32Array, ready: number, atNs: bigint): void {
    const slots = this.#slots;
    for (let base = 0, end = ready * epollLayout.words; base < end; base += epollLayout.words) {
      const slot = slots[words[base + epollLayout.slot] ?? 0];
      if (slot === undefined || slot.generation !== words[base + epollLayout.generation]) {
        this.counters.stale++;
        continue;
      }
      slot.watched = false;
      if (!slot.armed) {
        this.counters.stale++;
        continue;
      }
      try {
        this.#serve(slot, words[base + epollLayout.events] ?? 0, atNs);
      } catch (error) {
        rethrowLater(error);
      }
    }
  }

  #serve(slot: Slot, events: number, atNs: bigint): void {
    if (slot.kind === 'ready') {
      slot.armed = false;
      this.counters.armed--;
      this.counters.delivered++;
      slot.callback(0n, atNs);
      return;
    }
    const { binding } = this.#calls;
    const count = slot.kind === 'own' ? binding.readCount(slot.fd) : binding.readCountNow(slot.fd);
    if (count >= 0n) {
      // Disarmed before the call, so that the callback may arm again.
      slot.armed = false;
      this.counters.armed--;
      this.counters.delivered++;
      slot.callback(count, atNs);
    } else if (count === interrupted || (count === nothingToRead && (events & linux.EPOLLIN) !== 0)) {
      // Somebody else read it, or nothing was read. The consumer still waits for its signal.
      this.counters.empty++;
      this.#keeper.watch(slot, armedEvents);
    } else {
      // EPOLLERR or EPOLLHUP without anything to read, or a fd that is no eventfd: watching on would spin.
      const { failed } = slot;
      this.counters.failed++;
      slot.forget();
      failed(errnoError(count === nothingToRead ? 'EIO' : errnoName(count), 'read eventfd'));
    }
  }
}

interface SlotKeeper {
  readonly counters: ReactorCounters;
  watch(slot: Slot, events: number): void;
  armedChanged(): void;
  remove(slot: Slot): void;
}

/** An eventfd, which the reactor reads: this process's own, or another's as well. Or a fd that its owner reads. */
type SlotKind = 'own' | 'shared' | 'ready';

/** Plain fields and one shape: this is touched for every signal. */
class Slot implements ReactorSlot {
  armed = false;
  /** Whether the kernel still watches: EPOLLONESHOT ends that with every event. */
  watched = false;
  callback: SignalCallback = ignore;
  failed: (error: VfioError) => void = rethrow;
  #events: number = linux.EPOLLIN;
  #closed = false;

  constructor(
    private readonly keeper: SlotKeeper,
    readonly fd: number,
    readonly index: number,
    readonly generation: number,
    readonly kind: SlotKind,
  ) {}

  arm(callback: SignalCallback, failed: (error: VfioError) => void = rethrow): void {
    if (this.#closed) throw new VfioError('VFIO_E_CLOSED', 'the slot is closed', { operation: 'arm' });
    if (!this.watched) this.keeper.watch(this, this.#events | linux.EPOLLONESHOT);
    this.callback = callback;
    this.failed = failed;
    if (this.armed) return;
    this.armed = true;
    this.keeper.counters.armed++;
    this.keeper.armedChanged();
  }

  armFor(ready: () => void, events: number): void {
    if (events !== this.#events) this.watched = false;
    this.#events = events;
    this.arm(ready);
  }

  disarm(): void {
    this.forget();
    if (this.watched && !this.#closed) this.keeper.watch(this, quietEvents);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.forget();
    this.keeper.remove(this);
  }

  /** No longer asked for, and nothing of the consumer is kept. */
  forget(): void {
    this.callback = ignore;
    this.failed = rethrow;
    if (!this.armed) return;
    this.armed = false;
    this.keeper.counters.armed--;
    this.keeper.armedChanged();
  }
}

function ignore(): void {
  // A slot that is not armed has no consumer.
}

function rethrow(error: VfioError): never {
  throw error;
}

/** Every reactor with an open epoll fd. */
const open = new Set<Reactor>();

/** For Node to report: listeners of `uncaughtException` see it, and without one the process ends, as for any bug. */
function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

let shared: Reactor | undefined;

/** The one reactor of this process (of this thread, in a worker). Nothing is opened before its first `add`. */
export function sharedReactor(): Reactor {
  shared ??= new Reactor();
  return shared;
}
