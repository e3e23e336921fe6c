import { finalize, type SchedulerLike } from 'rxjs';
import { ownedCall } from '../call.js';
import type { LaneRequest, LaneResult } from '../linux/lane-request.js';
import type { Lane, LanePool } from '../linux/lanes.js';
import type { Call } from '../port.js';

/** What closing wants to know of the calls that are out. */
export interface Drained {
  /** `boundMs` have passed: what only waited was withdrawn, and a running call has not returned. At most once. */
  readonly stuck: () => void;
  /** No call is out any more. Once. */
  readonly done: () => void;
}

/** Ports of this process so far; the same device may be opened again while an old call on it is stuck. */
let ports = 0;

/**
 * The calls of one port that may block, on lanes of its own: no other port, of this device or another, queues behind
 * them. They are counted, because a fd must not be closed while a thread is in a call on it, or a call waits to be made
 * on it: its number goes to the next file that is opened.
 */
export class LaneCalls {
  readonly #pool: Pick<LanePool, 'lane'>;
  readonly #prefix: string;
  readonly #lanes = new Map<string, Lane>();
  #out = 0;
  #becameIdle: (() => void) | undefined;

  constructor(pool: Pick<LanePool, 'lane'>, device: string) {
    this.#pool = pool;
    ports += 1;
    this.#prefix = `${device}#${ports}`;
  }

  /** Runs to its end whoever listens. Calls of the same `lane` are made one after the other. */
  submit(lane: string, request: LaneRequest): Call<LaneResult> {
    return ownedCall(() => {
      this.#out += 1;
      return this.#lane(lane)
        .submit(request)
        .pipe(
          finalize(() => {
            this.#out -= 1;
            if (this.#out === 0) this.#becameIdle?.();
          }),
        );
    });
  }

  /** Waits for every call, however long that takes. For a port that makes no new ones. */
  drain(scheduler: SchedulerLike, boundMs: number, { stuck, done }: Drained): void {
    if (this.#out === 0) {
      done();
      return;
    }
    const bound = scheduler.schedule(() => {
      for (const lane of this.#lanes.values()) lane.withdraw();
      if (this.#out > 0) stuck();
    }, boundMs);
    this.#becameIdle = () => {
      this.#becameIdle = undefined;
      bound.unsubscribe();
      done();
    };
  }

  #lane(name: string): Lane {
    const lane = this.#lanes.get(name) ?? this.#pool.lane(`${this.#prefix}:${name}`, { patient: isPatient(name) });
    this.#lanes.set(name, lane);
    return lane;
  }
}

/** device_state and its data: a remap that one of them waits for is served by the others. */
function isPatient(lane: string): boolean {
  return lane === 'state' || lane.startsWith('data:');
}
