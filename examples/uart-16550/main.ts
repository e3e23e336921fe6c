import { fromEvent, merge, takeUntil } from 'rxjs';
import { serveDevice } from 'vfio-rx/devices';
import { socketPath } from '../socket-path.js';
import { uart16550, type SerialLine } from './uart.js';

/** tsx examples/uart-16550/main.ts unix:/PATH: what is typed here is received there, what is sent there is printed here. */
const { stdin, stdout, stderr } = process;
const stdio: SerialLine = {
  changes: merge(fromEvent(stdin, 'readable'), fromEvent(stdout, 'drain')),
  read: () => (stdin.read(1) as Buffer | null)?.[0],
  get room() {
    return !stdout.writableNeedDrain;
  },
  write: (byte) => stdout.write(Uint8Array.of(byte)),
};

serveDevice(uart16550(stdio), socketPath()).pipe(takeUntil(fromEvent(process, 'SIGTERM'))).subscribe({
  next: (event) => stderr.write(`${event.kind === 'listening' ? `serving at ${event.path}` : event.kind}\n`),
  error: (error: unknown) => {
    stderr.write(`${String(error)}\n`);
    process.exitCode = 1;
  },
  complete: () => stdin.destroy(),
});
