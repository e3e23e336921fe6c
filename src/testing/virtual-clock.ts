import type { Clock, StallWatch } from '../clock.js';
import type { FrameScheduler } from './frame-scheduler.js';
import { usPerFrame } from './frames.js';

/** The clock of a marble test. No stall passes in it but those that the test makes with `t.stall`. */
export class VirtualClock implements Clock {
  readonly scheduler: FrameScheduler;
  readonly virtual = true;
  readonly #nsPerFrame: bigint;
  readonly #watches = new Set<{ longest: bigint }>();

  constructor(scheduler: FrameScheduler) {
    this.scheduler = scheduler;
    this.#nsPerFrame = BigInt(usPerFrame(scheduler.unit)) * 1_000n;
  }

  nowNs(): bigint {
    return BigInt(this.scheduler.frame) * this.#nsPerFrame;
  }

  watchStalls(): StallWatch {
    const watch = { longest: 0n };
    this.#watches.add(watch);
    return {
      longestNs: () => watch.longest,
      stop: () => {
        this.#watches.delete(watch);
      },
    };
  }

  /** User code blocks the loop for so many frames, beginning now. */
  stall(frames: number): void {
    const ns = BigInt(frames) * this.#nsPerFrame;
    for (const watch of this.#watches) if (ns > watch.longest) watch.longest = ns;
    this.scheduler.block(frames);
  }
}
