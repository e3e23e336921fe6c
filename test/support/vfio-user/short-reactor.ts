import { Reactor, type ReactorSlot, type ReadySlot } from '../../../src/devices/linux/reactor.js';
import { errnoError } from '../../../src/errors.js';

/** It may have no room for a further fd. */
export class ShortReactor extends Reactor {
  short = false;

  override add(fd: number): ReactorSlot {
    this.#requireRoom();
    return super.add(fd);
  }

  override addReady(fd: number): ReadySlot {
    this.#requireRoom();
    return super.addReady(fd);
  }

  #requireRoom(): void {
    if (this.short) throw errnoError('ENOMEM', 'epoll_ctl');
  }
}
