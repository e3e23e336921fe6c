import { fromEvent, takeUntil } from 'rxjs';
import { serveDevice } from 'vfio-rx/devices';
import { socketPath } from '../socket-path.js';
import { virtioRng } from './rng.js';

/** tsx examples/virtio-rng/main.ts unix:/PATH */
serveDevice(virtioRng(), socketPath()).pipe(takeUntil(fromEvent(process, 'SIGTERM'))).subscribe({
  next: (event) => process.stderr.write(`${event.kind === 'listening' ? `serving at ${event.path}` : event.kind}\n`),
  error: (error: unknown) => {
    process.stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  },
});
