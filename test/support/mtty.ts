import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';

const parent = '/sys/class/mtty/mtty';

/** A serial port of the kernel's sample driver mtty: a mediated PCI function with INTx and MSI and nothing to map. */
export class Mtty implements Disposable {
  readonly uuid = randomUUID();

  constructor() {
    if (!existsSync(parent)) load();
    writeFileSync(`${parent}/mdev_supported_types/mtty-1/create`, this.uuid);
  }

  [Symbol.dispose](): void {
    writeFileSync(`/sys/bus/mdev/devices/${this.uuid}/remove`, '1');
  }
}

function load(): void {
  const module = process.env['VFIO_RX_MTTY_MODULE'];
  if (module === undefined) throw new Error('the lane has not built mtty: it does so for test files named after it');
  execFileSync('insmod', [module]);
}
