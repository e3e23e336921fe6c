import { directCall, type Asker } from '../devices/call.js';
import type { Call } from '../devices/port.js';

/** Something that one waits for and another tells, again and again. */
export class Pause {
  #waiting: Asker<void> | undefined;

  /** Answers when it is over the next time. One at a time. */
  readonly wait: Call<void> = directCall((asker: Asker<void>) => {
    this.#waiting = asker;
    return () => (this.#waiting = undefined);
  });

  over(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.answered();
  }
}
