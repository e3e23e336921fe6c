import { fromEvent, merge } from 'rxjs';
import { serve } from '../shared/serve.js';
import { uart16550, type SerialLine } from './uart.js';

/**
 * A serial port that was written here, for a guest of QEMU: what is typed is received there, what is sent there is printed.
 *
 * ```
 * guest   --w-----r--     its driver writes a register, reads one
 * stdout  --x--------
 * stdin   -----y-----
 * intx    -----u--d--     up while there is something to read
 * ```
 */
const { stdin, stdout } = process;
const stdio: SerialLine = {
  changes: merge(fromEvent(stdin, 'readable'), fromEvent(stdout, 'drain')),
  read: () => (stdin.read(1) as Buffer | null)?.[0],
  get room() {
    return !stdout.writableNeedDrain;
  },
  write: (byte) => stdout.write(Uint8Array.of(byte)),
};

serve(uart16550(stdio), () => stdin.destroy());
