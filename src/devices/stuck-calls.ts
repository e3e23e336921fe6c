import type { Observable } from 'rxjs';
import { Cell } from '../cell.js';

/** A call whose time was up and that has not returned. */
export interface StuckCall {
  /** `device_state pre-copy`, or `close`. */
  readonly call: string;
  /** When it began, ns on the device's clock. */
  readonly sinceNs: bigint;
}

/** The calls of one device that its driver keeps. A device has one write of device_state and one close, so there are two at most. */
export class StuckCalls {
  readonly cell = new Cell<readonly StuckCall[]>([]);

  /** @param returned ends when the call does */
  report(call: StuckCall, returned: Observable<unknown>): void {
    this.cell.set([...this.cell.current, call]);
    const back = (): void => this.cell.set(this.cell.current.filter((other) => other !== call));
    returned.subscribe({ error: back, complete: back });
  }

  /** The device is released: nothing of it can be out. */
  complete(): void {
    if (this.cell.current.length > 0) this.cell.set([]);
    this.cell.complete();
  }
}
