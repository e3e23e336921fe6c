import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { loadModule } from './modules.js';

/**
 * A serial port of the kernel's sample driver mtty: a mediated PCI function with INTx and MSI and nothing to map. The
 * lane builds it for test files that are named after it.
 */
export class Mtty implements Disposable {
  readonly uuid = randomUUID();

  constructor() {
    loadModule('mtty');
    writeFileSync('/sys/class/mtty/mtty/mdev_supported_types/mtty-1/create', this.uuid);
  }

  [Symbol.dispose](): void {
    writeFileSync(`/sys/bus/mdev/devices/${this.uuid}/remove`, '1');
  }
}
