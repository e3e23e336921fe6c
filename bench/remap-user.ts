/**
 * The user of the remap benchmark: the library's whole pipeline, from the irq to the ack, for a vendor driver in C.
 * Started pinned by run.ts; the vendor driver prints one line of JSON.
 *
 *   remap-user.ts PEER FILE REGIONS PAGES COUNT
 */
import { spawn } from 'node:child_process';
import { firstValueFrom } from 'rxjs';
import { openDevice, remapIrq, remapRegions } from '../src/index.js';
import { RemapDevice } from './remap-device.js';

const [peer = '', file = '', regions = '1', pages = '16', count = '1000'] = process.argv.slice(2);

const shared = new RemapDevice(file, Number(regions), Number(pages));
const device = await firstValueFrom(openDevice(shared));
const serving = remapIrq(device)
  .pipe(remapRegions(device))
  .subscribe({
    next: ({ because, notMapped }) => {
      if (notMapped.length > 0) throw new Error('an area could not be mapped');
      if (because === 'registered') begin();
    },
    error: (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  });

function begin(): void {
  const { file: memory, trigger, ack } = shared.fds;
  const vendor = spawn(peer, ['vendor', count], { stdio: ['ignore', 'inherit', 'inherit', memory, trigger, ack] });
  vendor.on('exit', (code) => {
    process.exitCode = code ?? 1;
    serving.unsubscribe();
    void device.close().then(() => {
      shared.close();
    });
  });
}
