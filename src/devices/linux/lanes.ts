import { AsyncSubject, Observable, type Subscriber } from 'rxjs';
import { VfioError } from '../../errors.js';
import { Eventfd } from './eventfd.js';
import { LaneThread, workerUrl } from './lane-thread.js';
import { detached, laneBytes, laneError, namesOf, type LaneRequest, type LaneResult } from './lane-request.js';
import { sharedReactor, type Reactor, type ReactorSlot } from './reactor.js';
import { linuxSyscalls, type Syscalls } from './syscalls.js';

/** Bounds of a pool, all of them optional. */
export interface LaneLimits {
  /** Threads, hence calls that can be blocked at once (64). Each costs about 8 MiB, and 40 ms to start. Beyond: `VFIO_E_LIMIT`. */
  readonly maxThreads?: number;
  /** Threads of them that patient lanes may have (48): further calls of theirs wait, so that the others find a thread. */
  readonly maxBlockedThreads?: number;
  /** Calls that wait in one lane behind its running one (64). Beyond: `VFIO_E_LIMIT`. */
  readonly maxQueued?: number;
  /** How long an idle thread waits for work before it ends, milliseconds (10,000). */
  readonly idleMs?: number;
}

/** What a pool is and was. */
export interface LaneCounters {
  /** Threads in a call, and threads waiting for work. */
  readonly running: number;
  readonly idle: number;
  /** Calls waiting behind another one of their lane, or for a patient lane's turn. */
  readonly queued: number;
  /** The most threads there ever were at once, and all that were ever started. */
  readonly peak: number;
  readonly started: number;
  /** Calls refused at a limit. */
  readonly refused: number;
}

/** Calls in one lane are made one after the other; lanes do not wait for each other. */
export interface Lane {
  readonly name: string;
  /**
   * One call for each subscription. Emits its result and completes; fails with a `VfioError` by errno, whose `cause` is
   * the `LaneResult`. Bytes are copied when it is subscribed.
   *
   * Unsubscribing takes a waiting call out of the queue. A running one cannot be taken back: it keeps its lane until it
   * returns, and nobody is told then. Who wants to see to its answer (a fd in it wants to be closed) stays subscribed.
   *
   * **Fails** `VFIO_E_LIMIT` (no thread free, queue full, no memory), `VFIO_E_CLOSED`, `VFIO_E_UNAVAILABLE` (a thread
   * cannot start or died), `VFIO_E_RANGE` (more than `maxLaneBytes`), `VFIO_E_PROTOCOL` (the driver claims to have moved
   * more bytes than there were).
   */
  submit(request: LaneRequest): Observable<LaneResult>;
  /** Ends the calls that wait in this lane (`VFIO_E_CLOSED`); the running one returns in its time. */
  withdraw(): void;
}

interface Job {
  readonly request: LaneRequest;
  readonly subscriber: Subscriber<LaneResult>;
}

/** How a lane is. */
export interface LaneTraits {
  /** Its calls may block for long, as device_state does, and nothing that one of them needs to return waits for another: they take turns beyond `maxBlockedThreads`. */
  readonly patient?: boolean;
}

interface LaneState {
  readonly name: string;
  readonly patient: boolean;
  thread: LaneThread | undefined;
  readonly queue: Job[];
}

/**
 * Threads for calls that may block: device_state, reset, DMA maps, bulk data. Apart from libuv's, so that a blocked
 * call holds up neither fs nor dns nor another lane.
 *
 * Started when needed, one for each lane that has a call out; given to the next lane then, and ended after some idle
 * time. A call that is out keeps the process alive, an idle thread does not. A thread that is stuck in the kernel holds
 * up `process.exit()`: see `exitNow`.
 */
export class LanePool {
  readonly maxBlockedThreads: number;
  readonly #maxThreads: number;
  readonly #maxQueued: number;
  readonly #idleMs: number;
  readonly #url: URL;
  readonly #given: Syscalls | undefined;
  readonly #reactor: Reactor;
  readonly #lanes = new Map<string, LaneState>();
  readonly #running = new Set<LaneThread>();
  /** Patient lanes that have a thread, and those that wait for one, first come first. */
  readonly #blocked = new Set<LaneState>();
  readonly #turns = new Set<LaneState>();
  readonly #idle: { readonly thread: LaneThread; readonly timer: NodeJS.Timeout }[] = [];
  readonly #ended = new AsyncSubject<void>();
  #wake: { readonly eventfd: Eventfd; readonly slot: ReactorSlot } | undefined;
  #threads = 0;
  #peak = 0;
  #started = 0;
  #refused = 0;
  #queued = 0;
  #closed = false;

  /** Opens nothing. `parts` replaces what a test wants to break. */
  constructor(limits: LaneLimits = {}, parts: { readonly calls?: Syscalls; readonly reactor?: Reactor; readonly workerUrl?: URL } = {}) {
    this.#maxThreads = limits.maxThreads ?? 64;
    this.maxBlockedThreads = Math.min(limits.maxBlockedThreads ?? 48, this.#maxThreads);
    this.#maxQueued = limits.maxQueued ?? 64;
    this.#idleMs = limits.idleMs ?? 10_000;
    this.#given = parts.calls;
    this.#reactor = parts.reactor ?? sharedReactor();
    this.#url = parts.workerUrl ?? workerUrl;
  }

  get counters(): LaneCounters {
    return { running: this.#running.size, idle: this.#idle.length, queued: this.#queued, peak: this.#peak, started: this.#started, refused: this.#refused };
  }

  /** Completes when the pool is closed and its last thread has ended. */
  get ended(): Observable<void> {
    return this.#ended.asObservable();
  }

  /** The lane of this name, e.g. `state:0000:00:04.0`. It exists while it has calls. */
  lane(name: string, { patient = false }: LaneTraits = {}): Lane {
    return {
      name,
      submit: (request) =>
        new Observable((subscriber) => {
          this.#accept(name, patient, { request, subscriber });
          return () => {
            this.#withdraw(name, subscriber);
          };
        }),
      withdraw: () => {
        this.#drop(this.#lanes.get(name)?.queue.splice(0) ?? []);
      },
    };
  }

  /** Refuses further calls and drops waiting ones (`VFIO_E_CLOSED`); running ones return in their time. Twice is fine. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const { thread, timer } of this.#idle.splice(0)) {
      clearTimeout(timer);
      thread.end();
    }
    this.#drop([...this.#lanes.values()].flatMap((lane) => lane.queue.splice(0)));
    this.#takeTurns();
    this.#releaseIfEnded();
  }

  #drop(waiting: readonly Job[]): void {
    this.#queued -= waiting.length;
    for (const { request, subscriber } of waiting) subscriber.error(closedError(request));
  }

  #accept(name: string, patient: boolean, job: Job): void {
    const { request, subscriber } = job;
    try {
      if (this.#closed) throw closedError(request);
      laneBytes(request);
      const lane = this.#lanes.get(name) ?? { name, patient, thread: undefined, queue: [] };
      const mayBegin = !lane.patient || this.#blocked.size < this.maxBlockedThreads;
      if (lane.thread === undefined && !this.#turns.has(lane) && mayBegin) {
        this.#begin(lane, this.#take(request), job);
      } else if (lane.queue.length < this.#maxQueued) {
        lane.queue.push({ ...job, request: detached(request) });
        this.#queued++;
        if (lane.thread !== undefined) return;
        this.#lanes.set(name, lane);
        this.#turns.add(lane);
      } else {
        throw this.#refuse(request, `${String(this.#maxQueued)} calls wait in lane ${name} already`);
      }
    } catch (error) {
      subscriber.error(error);
    }
  }

  #withdraw(name: string, subscriber: Subscriber<LaneResult>): void {
    const queue = this.#lanes.get(name)?.queue ?? [];
    const index = queue.findIndex((job) => job.subscriber === subscriber);
    if (index < 0) return;
    queue.splice(index, 1);
    this.#queued--;
  }

  #begin(lane: LaneState, thread: LaneThread, job: Job): void {
    lane.thread = thread;
    this.#lanes.set(lane.name, lane);
    this.#running.add(thread);
    if (lane.patient) this.#blocked.add(lane);
    try {
      this.#listen();
      thread.start(job.request, (outcome) => {
        this.#finish(lane, thread, job, outcome);
      });
    } catch (error) {
      this.#next(lane, thread);
      throw error;
    }
  }

  #finish(lane: LaneState, thread: LaneThread, job: Job, outcome: LaneResult | VfioError): void {
    // The lane goes on before anybody is told: a subscriber may submit to it at once.
    if (thread.dead) this.#replace(lane, thread);
    else this.#next(lane, thread);
    const { request, subscriber } = job;
    if (outcome instanceof VfioError) {
      subscriber.error(outcome);
    } else if (outcome.errno !== undefined) {
      subscriber.error(laneError(request, outcome));
    } else {
      subscriber.next(outcome);
      subscriber.complete();
    }
  }

  /** The thread is free: the lane's next call takes it, else it rests. */
  #next(lane: LaneState, thread: LaneThread): void {
    const job = lane.queue.shift();
    if (job === undefined) {
      this.#running.delete(thread);
      this.#rest(thread);
      this.#leave(lane);
      return;
    }
    this.#queued--;
    try {
      this.#begin(lane, thread, job);
    } catch (error) {
      job.subscriber.error(error);
    }
  }

  /** The lane has nothing to do: another one has its turn. */
  #leave(lane: LaneState): void {
    lane.thread = undefined;
    this.#lanes.delete(lane.name);
    this.#blocked.delete(lane);
    this.#takeTurns();
    this.#listen();
  }

  /** Lanes that waited begin, as far as there are threads for such as they. */
  #takeTurns(): void {
    for (const lane of this.#turns) {
      if (lane.queue.length > 0 && this.#blocked.size >= this.maxBlockedThreads) return;
      this.#turns.delete(lane);
      const job = lane.queue.shift();
      if (job === undefined) {
        this.#lanes.delete(lane.name);
        continue;
      }
      this.#queued--;
      try {
        this.#begin(lane, this.#take(job.request), job);
      } catch (error) {
        if (lane.thread === undefined && lane.queue.length > 0) this.#turns.add(lane);
        else if (lane.thread === undefined && this.#lanes.get(lane.name) === lane) this.#lanes.delete(lane.name);
        job.subscriber.error(error);
      }
    }
  }

  /** The thread died in a call: the calls behind it get another one. */
  #replace(lane: LaneState, dead: LaneThread): void {
    this.#running.delete(dead);
    lane.thread = undefined;
    const job = lane.queue.shift();
    if (job === undefined) {
      this.#leave(lane);
      return;
    }
    this.#queued--;
    try {
      this.#begin(lane, this.#take(job.request), job);
    } catch (error) {
      job.subscriber.error(error);
      this.#replace(lane, dead);
    }
  }

  #take(request: LaneRequest): LaneThread {
    const rested = this.#idle.pop();
    if (rested !== undefined) {
      clearTimeout(rested.timer);
      return rested.thread;
    }
    if (this.#threads >= this.#maxThreads) throw this.#refuse(request, `all ${String(this.#maxThreads)} threads are in blocked calls`);
    const calls = this.#given ?? linuxSyscalls();
    this.#wake ??= this.#openWake(calls);
    const thread = this.#startThread(calls, this.#wake.eventfd.fd, request);
    this.#threads++;
    this.#started++;
    this.#peak = Math.max(this.#peak, this.#threads);
    return thread;
  }

  #startThread(calls: Syscalls, wakeFd: number, request: LaneRequest): LaneThread {
    try {
      const thread: LaneThread = new LaneThread(calls, wakeFd, this.#url, () => {
        this.#gone(thread);
      });
      return thread;
    } catch (cause) {
      this.#releaseIfEnded();
      throw new VfioError('VFIO_E_LIMIT', 'no thread can be started for this call: lower the number of threads, or raise ulimit -u or memory', { ...namesOf(request), cause });
    }
  }

  #rest(thread: LaneThread): void {
    if (this.#closed) {
      thread.end();
      return;
    }
    const timer = setTimeout(() => {
      this.#idle.splice(
        this.#idle.findIndex((idle) => idle.thread === thread),
        1,
      );
      thread.end();
    }, this.#idleMs);
    timer.unref();
    this.#idle.push({ thread, timer });
  }

  #gone(thread: LaneThread): void {
    this.#threads--;
    const index = this.#idle.findIndex((idle) => idle.thread === thread);
    if (index >= 0) clearTimeout(this.#idle.splice(index, 1)[0]?.timer);
    this.#releaseIfEnded();
  }

  #openWake(calls: Syscalls): { readonly eventfd: Eventfd; readonly slot: ReactorSlot } {
    const eventfd = new Eventfd(calls);
    try {
      return { eventfd, slot: this.#reactor.add(eventfd.fd) };
    } catch (error) {
      eventfd.close();
      throw error;
    }
  }

  /** Armed, and so keeping the process alive, exactly while a call is out. */
  #listen(): void {
    if (this.#wake === undefined) return;
    if (this.#running.size === 0) this.#wake.slot.disarm();
    else if (!this.#wake.slot.armed) this.#wake.slot.arm(this.#collect);
  }

  readonly #collect = (): void => {
    // First the next request, then the answers: what they set off must not cost the lanes their wakeup.
    this.#wake?.slot.arm(this.#collect);
    for (const thread of [...this.#running]) thread.collect();
  };

  /** The wake eventfd outlives every thread: they write to its number. */
  #releaseIfEnded(): void {
    if (this.#threads > 0) return;
    this.#wake?.slot.close();
    this.#wake?.eventfd.close();
    this.#wake = undefined;
    if (!this.#closed) return;
    this.#ended.next();
    this.#ended.complete();
  }

  #refuse(request: LaneRequest, why: string): VfioError {
    this.#refused++;
    return new VfioError('VFIO_E_LIMIT', `${why}: raise the pool's limits, or find out which call does not return`, namesOf(request));
  }
}

function closedError(request: LaneRequest): VfioError {
  return new VfioError('VFIO_E_CLOSED', 'withdrawn before it began, or made too late: what it was for is closed', namesOf(request));
}

let shared: LanePool | undefined;

/** The process's pool, with the default limits. Starts no thread before its first call. */
export function sharedLanes(): LanePool {
  shared ??= new LanePool();
  return shared;
}
