import type { Errno } from './errno.js';
import type { SoftEventfd } from './eventfd.js';
import { RemapIrq, type RemapIrqSurroundings } from './remap-irq.js';
import { bitOf } from './remap-shape.js';

/** The remap irqs of all pages: each has its registration, sums and waits, and none knows of another. */
export class RemapPages {
  readonly all: readonly RemapIrq[];
  /** What a write of device_state says that needs an irq which is not there. */
  readonly refusal: Errno;

  constructor(around: Omit<RemapIrqSurroundings, 'refusal'>) {
    this.refusal = around.shape.profile === 'rfc-v4' ? 'ENODEV' : 'EPERM';
    this.all = around.shape.pages.map((page) => new RemapIrq(page, {
      ...around,
      refusal: this.refusal,
      inUse: (eventfd) => this.holds(eventfd) || around.inUse(eventfd),
    }));
  }

  at(irqIndex: number): RemapIrq | undefined {
    return this.all.find((page) => page.irqIndex === irqIndex);
  }

  get complete(): boolean {
    return this.all.every((page) => page.complete);
  }

  get eventfds(): number {
    return this.all.reduce((sum, page) => sum + page.eventfds, 0);
  }

  get waiting(): boolean {
    return this.all.some((page) => page.waiting);
  }

  holds(eventfd: SoftEventfd): boolean {
    return this.all.some((page) => page.holds(eventfd));
  }

  /**
   * Signals regions, each by its page. With `done` every page that has some waits, all at once; the first that fails
   * decides, and ends the others with it.
   */
  signal(regions: readonly number[], done?: (errno: Errno | undefined) => void): void {
    const concerned = this.all.flatMap((irq) => {
      const bits = regions.map(bitOf).reduce((sum, { page, bit }) => (page === irq.page ? sum | bit : sum), 0n);
      return bits === 0n ? [] : [{ irq, bits }];
    });
    if (done === undefined) {
      for (const { irq, bits } of concerned) irq.signal(bits);
      return;
    }
    let left = concerned.length;
    let failed: Errno | undefined;
    const ended = (errno: Errno | undefined): void => {
      left -= 1;
      if (errno !== undefined && failed === undefined) {
        failed = errno;
        this.fail(errno);
      }
      if (left === 0) done(failed);
    };
    for (const { irq, bits } of concerned) {
      if (failed === undefined) irq.signal(bits, ended);
      else ended(undefined);
    }
  }

  /** Ends every wait with this errno. */
  fail(errno: Errno): void {
    for (const page of this.all) page.fail(errno);
  }

  /** Something was unmapped: a wait may have ended by that. */
  settle(): void {
    for (const page of this.all) page.settle();
  }

  /** The session is over: whatever is still registered goes. */
  drop(): void {
    for (const page of this.all) page.drop();
  }
}
