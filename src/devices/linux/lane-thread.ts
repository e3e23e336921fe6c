import { Worker } from 'node:worker_threads';
import { VfioError } from '../../errors.js';
import { errnoName } from './binding.js';
import { inputOf, laneBytes, lieOf, namesOf, type LaneRequest, type LaneResult } from './lane-request.js';
import { mapAnonymous, type MappedMemory } from './mapped-memory.js';
import type { Syscalls } from './syscalls.js';

/** The memory that both threads share: 32-bit words (the first is what Atomics waits on), then 64-bit ones. */
const layout = {
  state: { idle: 0, request: 1, done: 2, end: 3 },
  operation: { ioctl: 0, read: 1, write: 2, pread: 3, pwrite: 4 },
  word: { state: 0, operation: 1, fd: 2, errno: 3 },
  words: 4,
  wideOffset: 64,
  wide: { request: 0, argument: 1, length: 2, offset: 3, value: 4, startedNs: 5, returnedNs: 6 },
  wides: 7,
} as const;

/** What syscall-worker.mjs is started with. */
export interface WorkerSetup {
  readonly control: SharedArrayBuffer;
  /** An eventfd: the worker adds 1 when a call has returned. */
  readonly wakeFd: number;
  readonly layout: typeof layout;
}

/** Where the worker's file is: beside this one. */
export const workerUrl = new URL('./syscall-worker.mjs', import.meta.url);

/** Told once for each call, whatever happened to it; an error says nothing about the thread: see `dead`. */
type Done = (outcome: LaneResult | VfioError) => void;

/**
 * One thread that makes one blocking call at a time. Bytes pass through native memory that both sides address, and
 * neither side needs the other's event loop: the worker sleeps in Atomics.wait, this side is woken by an eventfd.
 */
export class LaneThread {
  readonly #calls: Syscalls;
  readonly #worker: Worker;
  readonly #words: Int32Array;
  readonly #wides: BigInt64Array;
  #memory: MappedMemory | undefined;
  #current: { readonly request: LaneRequest; readonly done: Done } | undefined;
  #failure: unknown;
  #dead = false;

  /** @param ended called once, when the thread is gone. */
  constructor(calls: Syscalls, wakeFd: number, url: URL, ended: () => void) {
    this.#calls = calls;
    const control = new SharedArrayBuffer(layout.wideOffset + layout.wides * 8);
    this.#words = new Int32Array(control, 0, layout.words);
    this.#wides = new BigInt64Array(control, layout.wideOffset, layout.wides);
    const workerData: WorkerSetup = { control, wakeFd, layout };
    // Without the parent's loaders and flags: it is plain JavaScript, and starts faster so.
    this.#worker = new Worker(url, { workerData, execArgv: [], name: 'vfio-rx lane' });
    // The pool's eventfd keeps the process alive while a call is out; an idle thread does not.
    this.#worker.unref();
    this.#worker.on('error', (error) => {
      this.#failure = error;
    });
    this.#worker.on('exit', () => {
      this.#dead = true;
      this.#memory?.close();
      this.#memory = undefined;
      const current = this.#current;
      this.#current = undefined;
      ended();
      current?.done(this.#deathOf(current.request));
    });
  }

  /** It takes no further call. */
  get dead(): boolean {
    return this.#dead;
  }

  /** Starts a call; only while none is out. Throws (bad range, no memory) before anything is started. */
  start(request: LaneRequest, done: Done): void {
    const bytes = laneBytes(request);
    const input = inputOf(request);
    const memory = this.#room(bytes);
    if (input !== undefined && memory !== undefined) new Uint8Array(memory.memory, 0, bytes).set(input);
    const { word, wide } = layout;
    this.#words[word.operation] = layout.operation[request.op];
    this.#words[word.fd] = request.fd;
    this.#wides[wide.request] = BigInt(request.op === 'ioctl' ? request.request : 0);
    this.#wides[wide.argument] = request.op === 'ioctl' && typeof request.argument === 'number' ? BigInt(request.argument) : (memory?.address ?? 0n);
    this.#wides[wide.length] = BigInt(bytes);
    this.#wides[wide.offset] = 'offset' in request ? request.offset : 0n;
    this.#current = { request, done };
    this.#turn(layout.state.request);
  }

  /** Takes the answer when there is one. */
  collect(): void {
    const current = this.#current;
    if (current === undefined || Atomics.load(this.#words, layout.word.state) !== layout.state.done) return;
    this.#current = undefined;
    this.#turn(layout.state.idle);
    current.done(this.#outcome(current.request));
  }

  /** Ends the thread when it is idle; only then. The process waits for it: it is a matter of milliseconds. */
  end(): void {
    this.#worker.ref();
    this.#turn(layout.state.end);
  }

  #turn(state: number): void {
    Atomics.store(this.#words, layout.word.state, state);
    Atomics.notify(this.#words, layout.word.state);
  }

  /** What the driver answered is checked, and no failure in here may cost the call its answer. */
  #outcome(request: LaneRequest): LaneResult | VfioError {
    try {
      const result = this.#result(request);
      return lieOf(request, result) ?? result;
    } catch (cause) {
      return new VfioError('VFIO_E_LIMIT', 'no memory for the answer of this call: ask for less at once', { ...namesOf(request), cause });
    }
  }

  #result(request: LaneRequest): LaneResult {
    const { word, wide } = layout;
    const errno = this.#words[word.errno] ?? 0;
    const value = Number(this.#wides[wide.value]);
    const asked = laneBytes(request);
    const length = request.op === 'ioctl' ? asked : 'length' in request ? Math.min(Math.max(value, 0), asked) : 0;
    return {
      value,
      errno: errno === 0 ? undefined : errnoName(errno),
      bytes: length > 0 && this.#memory !== undefined ? copyFor(request, new Uint8Array(this.#memory.memory, 0, length)) : new Uint8Array(0),
      startedNs: this.#wides[wide.startedNs] ?? 0n,
      returnedNs: this.#wides[wide.returnedNs] ?? 0n,
      seenNs: process.hrtime.bigint(),
    };
  }

  /** Memory for a request's bytes, kept for the next one. */
  #room(bytes: number): MappedMemory | undefined {
    if (bytes > (this.#memory?.size ?? 0)) {
      const larger = mapAnonymous(bytes, this.#calls);
      this.#memory?.close();
      this.#memory = larger;
    }
    return this.#memory;
  }

  #deathOf(request: LaneRequest): VfioError {
    const cause = this.#failure;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    return code === 'ERR_WORKER_OUT_OF_MEMORY' || code === 'ERR_WORKER_INIT_FAILED'
      ? new VfioError('VFIO_E_LIMIT', 'the thread for this call had no memory: lower the number of threads, or raise ulimit -u or memory', { ...namesOf(request), cause })
      : new VfioError('VFIO_E_UNAVAILABLE', `the thread for this call ended: ${cause instanceof Error ? cause.message : 'without an error'}; syscall-worker.mjs must stand beside the code, and koffi load in it`, { ...namesOf(request), cause });
  }
}

/** The thread's memory serves the next call as well. New memory is cleared by the kernel first, and collected later: who reads much lends its own. */
function copyFor(request: LaneRequest, bytes: Uint8Array): Uint8Array {
  const into = 'into' in request ? request.into : undefined;
  if (into === undefined || into.length < bytes.length) return bytes.slice();
  into.set(bytes);
  return into.subarray(0, bytes.length);
}
