/** Signals that follow one another faster than this are dense traffic. */
const denseNs = 100_000n;
/** However dense the traffic, the event loop has its turn this often. */
const turnNs = 250_000n;
/** After lingering in vain, so many dense wakes at most are passed over before the next try. */
const maxSkipped = 1023;

/**
 * Whether, and how long, the reactor waits in the kernel for the next signal before it gives the loop its turn.
 *
 * A turn of Node's loop costs more than a whole delivery (libuv asks the kernel twice, and the poll callback builds an
 * object), so a peer that answers within microseconds would be served at half of what a C program can do. In dense
 * traffic the reactor therefore lingers: it sleeps in epoll_pwait2 for some microseconds, and the next signal is served
 * without that turn. It is a sleep and not a spin, and it is kept from harming anything else on the loop:
 *
 * - an isolated signal never lingers: only one that came within 100 us of the one before;
 * - timers, sockets and microtasks wait 250 us at most, then the loop has its turn;
 * - lingering in vain doubles the number of wakes passed over until the next try, so that a consumer whose next signal
 *   depends on the loop (on a microtask, a socket) pays for it next to never.
 */
export class Linger {
  #timeoutNs: number;
  #lastNs = 0n;
  #turnStartNs = 0n;
  #dense = false;
  #skipped = 0;
  #skip = 0;

  /** @param us the longest wait, microseconds; the kernel's timer slack comes on top (50 us by default). 0: never. */
  constructor(us: number) {
    this.#timeoutNs = Math.min(Math.max(us, 0), 1000) * 1000;
  }

  /** A turn of the loop begins with a wake. */
  wake(nowNs: bigint): void {
    this.#turnStartNs = nowNs;
    this.#dense = nowNs - this.#lastNs < denseNs;
    this.#lastNs = nowNs;
    if (this.#dense && this.#skip > 0) {
      this.#skip--;
      this.#dense = false;
    }
  }

  /** How long to wait after a batch taken at `nowNs`; 0: do not. */
  timeoutNs(nowNs: bigint): number {
    this.#lastNs = nowNs;
    return this.#dense && nowNs - this.#turnStartNs < turnNs ? this.#timeoutNs : 0;
  }

  /** What a wait brought: events, 0 when it was in vain, -errno (ENOSYS before Linux 5.11). */
  waited(ready: number): void {
    if (ready > 0) {
      this.#skipped = 0;
    } else if (ready === 0) {
      this.#skipped = Math.min(this.#skipped * 2 + 1, maxSkipped);
      this.#skip = this.#skipped;
    } else {
      this.#timeoutNs = 0;
    }
  }
}
