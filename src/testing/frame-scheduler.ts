import { VirtualAction, type SchedulerAction, type Subscription } from 'rxjs';
import { TestScheduler } from 'rxjs/testing';
import { usPerFrame, type FrameUnit } from './frames.js';

/** A test that has run this many actions goes on for ever: an interval that nobody ends, or work that reschedules itself. */
const usuallyEndlessAfter = 200_000;

/**
 * rxjs's TestScheduler with frames of a microsecond, while every delay that rxjs asks for stays in milliseconds:
 * `timeout(5)` fires at frame 5000. Frames are integers; a delay is rounded to the nearest one.
 *
 * `run()` is rxjs's own and puts this scheduler behind asyncScheduler, asapScheduler and Date as well, so that operators
 * without an explicit scheduler keep the same time.
 */
export class FrameScheduler extends TestScheduler {
  readonly unit: FrameUnit;
  readonly #framesPerMs: number;
  readonly #endlessAfter: number;
  /** No action runs before this frame: the loop was blocked until then. */
  #blockedUntil = 0;
  /** The latest time, ms, that somebody computed for something that is due in `#lateIn`; see `#nowMs`. */
  #lateMs = 0;
  #lateIn = -1;
  #executed = 0;

  constructor(unit: FrameUnit, endlessAfter = usuallyEndlessAfter) {
    super(() => {
      throw new Error('expectations are made by the marble kit, not by its scheduler');
    });
    this.unit = unit;
    this.#endlessAfter = endlessAfter;
    this.#framesPerMs = 1_000 / usPerFrame(unit);
    this.now = () => this.#nowMs();
  }

  /** `delay` in milliseconds, as everywhere in rxjs. */
  override schedule<T>(work: (this: SchedulerAction<T>, state?: T) => void, delay = 0, state?: T): Subscription {
    return new FrameAction<T>(this, work).schedule(state, delay);
  }

  /** Runs `work` when the given frame comes. */
  atFrame(frame: number, work: () => void): Subscription {
    return this.schedule(work, (frame - this.frame) / this.#framesPerMs);
  }

  /** Runs what is due in this frame, and nothing after it. */
  settle(): void {
    this.#runUntil(this.frame);
  }

  /** Goes on to the next frame in which something is due, and runs that. False where nothing is. */
  advance(): boolean {
    const [next] = this.actions;
    if (next === undefined) return false;
    this.#runUntil(Math.max(this.frame, next.delay));
    return true;
  }

  /** Lets so much time pass, and runs what is due in it. */
  pass(ms: number): void {
    const end = this.frame + this.framesIn(ms);
    this.atFrame(end, () => undefined);
    this.#runUntil(end);
  }

  #runUntil(frame: number): void {
    const { maxFrames } = this;
    this.maxFrames = frame;
    try {
      this.flush();
    } finally {
      this.maxFrames = maxFrames;
    }
  }

  /** Blocks the loop from now on, as a long computation would: time passes, and what falls due meanwhile runs late. */
  block(frames: number): void {
    this.frame += frames;
    this.#blockedUntil = Math.max(this.#blockedUntil, this.frame);
  }

  framesIn(delayMs: number): number {
    return Math.max(0, Math.round(delayMs * this.#framesPerMs));
  }

  /** Called by each action as it begins. */
  begin(dueMs: number): void {
    this.frame = Math.max(this.frame, this.#blockedUntil);
    if (this.#lateIn !== this.frame) {
      this.#lateIn = this.frame;
      this.#lateMs = 0;
    }
    this.#lateMs = Math.max(this.#lateMs, dueMs);
    this.#executed += 1;
    if (this.#executed > this.#endlessAfter) {
      throw new Error(`virtual time does not come to rest: ${this.#endlessAfter} actions by frame ${this.frame}. Does an interval run that nobody ends, or work that reschedules itself without a delay?`);
    }
  }

  /**
   * Milliseconds cannot count microseconds exactly: 0.1 + 0.2 is later than 0.3, and debounceTime, which compares
   * `last + dueTime` with `now()`, would wait for ever in frame 300. So in the frame in which something falls due it is
   * never earlier than whoever scheduled it has computed.
   */
  #nowMs(): number {
    const ms = this.frame / this.#framesPerMs;
    return this.#lateIn === this.frame && this.framesIn(this.#lateMs) === this.frame ? Math.max(ms, this.#lateMs) : ms;
  }
}

/** rxjs recycles an action by making a plain VirtualAction, whose delay would be frames: so both ways in are ours. */
class FrameAction<T> extends VirtualAction<T> {
  readonly #frames: FrameScheduler;
  readonly #work: (this: SchedulerAction<T>, state?: T) => void;
  #dueMs = 0;

  constructor(scheduler: FrameScheduler, work: (this: SchedulerAction<T>, state?: T) => void) {
    super(scheduler, work);
    this.#frames = scheduler;
    this.#work = work;
  }

  override schedule(state?: T, delay = 0): Subscription {
    if (this.id === undefined || !Number.isFinite(delay)) return super.schedule(state, delay);
    this.active = false;
    const next = new FrameAction<T>(this.#frames, this.#work);
    this.add(next);
    return next.schedule(state, delay);
  }

  protected override requestAsyncId(scheduler: FrameScheduler, id?: number, delay = 0): ReturnType<typeof setTimeout> | number {
    this.#dueMs = progressed(scheduler.now(), delay);
    return super.requestAsyncId(scheduler, id, scheduler.framesIn(delay));
  }

  override execute(state: T, delay: number): unknown {
    if (this.active && !this.closed) this.#frames.begin(this.#dueMs);
    return super.execute(state, delay);
  }
}

/** now + delay, and more than now where the delay is: a remainder of rounding must not stand still. */
function progressed(nowMs: number, delayMs: number): number {
  const due = nowMs + delayMs;
  return delayMs > 0 && due <= nowMs ? nowMs * (1 + Number.EPSILON) : due;
}
